"""Plans of several studies together."""
