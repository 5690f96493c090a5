"""How the data is made: Apache Beam pipelines from upstream archives to shards and a manifest."""

import atexit
import gc
import logging

# Beam warns at import about Google clients that nobody here asked for.
logging.getLogger().addFilter(lambda record: not record.getMessage().startswith("apitools not found"))

# At its end Python looks for garbage among all that was ever imported: half a second, and Beam waits for one worker
# after the other.
atexit.register(gc.freeze)
