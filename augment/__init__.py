"""Transforms that vary the data: one per file, batched torch, explicit generator. None is built yet."""
