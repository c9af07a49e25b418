"""Rules as pure values: retries, limits, levels, order, partitions, admission."""
