"""The reads and actions of operators on the server, with their Lua."""
