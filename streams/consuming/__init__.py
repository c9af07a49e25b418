"""The parts of a consumer: fetch loop, runners, settler, lease keeper. ``streams.consumer`` puts them together."""
