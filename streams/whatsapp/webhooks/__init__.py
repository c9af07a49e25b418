"""Webhooks of providers: statuses of messages, and inbound messages."""
