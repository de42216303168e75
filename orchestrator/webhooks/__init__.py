"""Webhooks: who is to be told of what happens to studies, and what became of telling them."""
