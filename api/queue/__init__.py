"""The queue: who waits for what, priorities, pauses, and what owners may have."""
