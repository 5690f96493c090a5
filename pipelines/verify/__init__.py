"""The command `pipelines.verify`: a version against its manifest, and what the cache can mend of it."""
