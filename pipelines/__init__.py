"""Apache Beam pipelines from upstream archives to shards and a manifest."""

import logging

from tutti.datasets.command import guard_imports

guard_imports()

# Beam warns at import about Google clients that nobody here asked for.
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith("apitools not found"))
