"""The embedded stack: every part of Retort on one machine, under a supervisor, on loopback."""
