"""Reading of shards: tables, hot copies, two tiers, the order of an epoch."""
