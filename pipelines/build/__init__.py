"""The command `pipelines.build`: what is asked for, what stands already, the flow, and what is remembered of it."""
