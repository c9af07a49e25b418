"""Facts that an application keeps beside its events, with their Lua."""
