"""The service: REST, events and problems; its client, the `retort` command; and the embedded stack that runs it all.

Everything here answers from the database through `orchestrator`; nothing here trains, and neither torch nor ray is imported.
"""
