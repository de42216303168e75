"""Webhooks: add, look at with their history, remove."""
