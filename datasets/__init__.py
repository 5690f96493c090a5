"""The data's types: rows, taxonomy, audio, shards, manifests and one reader per corpus.

Its name is `tutti.datasets`; `datasets` is the Hugging Face package. Nothing here imports that package, nor anything
else of ours.
"""

import tutti  # noqa: F401  makes the short name mean the full one
