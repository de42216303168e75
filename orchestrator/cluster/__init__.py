"""The Ray cluster from outside: its HTTP interface, what keeps its head, and small jobs that speak and ask on its nodes."""
