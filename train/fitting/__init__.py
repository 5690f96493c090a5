"""The fit of weights: loop, checkpoints, losses, optimizers, augmentation from one line of text."""
