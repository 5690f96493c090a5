"""Apache Beam pipelines from upstream archives to shards and a manifest."""

import logging

import tutti  # noqa: F401  makes the short name mean the full one

# Beam warns at import about Google clients that nobody here asked for.
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith("apitools not found"))
