"""Webhooks to tenants about their messages: signed, and retried for three days."""
