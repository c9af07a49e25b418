"""Webhooks to tenants: what became of their messages, signed, and tried again for three days."""
