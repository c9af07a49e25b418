"""What operators read and do: dead letters, pauses, limits, groups, erasure, and why events wait."""
