"""Helpers that know nothing of events: argument checks, masking, threads, forks."""
