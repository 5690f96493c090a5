"""Runs on disk: the folder, and what a finished run holds."""
