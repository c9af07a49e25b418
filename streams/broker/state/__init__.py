"""What an application keeps beside its events, its Lua beside it."""
