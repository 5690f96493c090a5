"""The command `pipelines.render`: scores to audio with exact labels, and training sets for the built-in embedder."""
