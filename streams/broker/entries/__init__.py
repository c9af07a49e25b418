"""The life of an entry on the server: one module per step, its Lua beside it."""
