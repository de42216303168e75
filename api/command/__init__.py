"""The `retort` command: what a person types, and what the terminal shows."""
