"""What operators read and change on the server, its Lua beside it."""
