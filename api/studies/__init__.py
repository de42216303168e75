"""Studies: submit, plan, look at, follow, cancel, resume, and their tables."""
