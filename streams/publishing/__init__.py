"""From what a caller publishes to one request: prepared, batched, spread over partitions."""
