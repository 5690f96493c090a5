"""Notes: rolls, network, loss, scores, and the way from a network back to notes."""
