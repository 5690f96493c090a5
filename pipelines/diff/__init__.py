"""The command `pipelines.diff`: what differs between two versions, and how much of it a recipe allows."""
