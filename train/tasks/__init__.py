"""What a run learns: one file per task; `train/task.py` says what a task is."""
