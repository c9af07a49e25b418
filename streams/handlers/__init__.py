"""Declared handlers: which function serves which types of which group, and how its body is typed."""
