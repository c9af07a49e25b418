"""Benchmarks: ratios between ours and the bare client library, never asserted in tests."""
