"""Declared handlers: their groups, event types, options and typed bodies."""
