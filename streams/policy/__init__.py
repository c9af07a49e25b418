"""Declared rules as pure values: retries, limits, levels, order and fairness, partitions, admission."""
