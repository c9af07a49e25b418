"""Webhooks that providers send: statuses of messages, and messages of people."""
