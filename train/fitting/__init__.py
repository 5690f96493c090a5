"""How weights come about: the loop, losses, optimizers, augmentation from one line of text."""
