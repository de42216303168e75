"""What a study's searches found: the best values, and the spec with them filled in."""
