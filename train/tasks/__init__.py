"""One file per task: a thing to learn from clips. `train/task.py` is their interface."""
