"""The pictures of a study over REST."""
