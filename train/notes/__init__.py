"""What is learned from notes: rolls, network, loss, scores, and from a network back to notes."""
