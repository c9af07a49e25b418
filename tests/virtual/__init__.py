"""The consumer's own logic under virtual time: seeded interleavings against a model of the server."""
