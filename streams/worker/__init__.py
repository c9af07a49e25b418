"""The roles of a worker process, from start to orderly end."""
