"""The command `pipelines.relabel`: samples for listeners, and what their answers say of the labels."""
