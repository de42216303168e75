"""One trial in a process of its own: what it is given, where its files are on its node, and what it tells Tune."""
