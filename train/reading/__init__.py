"""From shards to batches: what shards say, three ways to read them, the order of an epoch."""
