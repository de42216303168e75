"""Training one trial: `trial.py` puts its parts together, `loop.py` is the loop, and every other file is one part of it."""
