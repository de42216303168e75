"""Searches of a study: which combination is tried next, which trainings are stopped early, and what was found."""
