"""The roles of a worker process, from its start to its orderly end."""
