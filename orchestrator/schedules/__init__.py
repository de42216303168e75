"""Studies on a schedule: when they are due, what a due time becomes, and what moved between two runs."""
