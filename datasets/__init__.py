"""The data's types: rows, taxonomy, audio, shards, manifests and one reader per corpus.

This folder shadows the Hugging Face package of the same name: tutti is an application that
runs from the root of its checkout. Nothing here imports that package, nor anything else of ours.
"""

from tutti.datasets.command import guard_imports

guard_imports()
