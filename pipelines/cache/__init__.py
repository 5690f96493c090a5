"""The cache: downloads and results by their digests, and the command `pipelines.cache`."""
