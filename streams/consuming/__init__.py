"""The parts of a consumer. ``streams.consumer`` puts them together."""
