"""Reads and verbs of operators, from dead letters to the reason why an event waits."""
