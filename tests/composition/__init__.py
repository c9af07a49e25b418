"""Random compositions of what can be declared and done, against one oracle: whatever has no reason to wait starts."""
