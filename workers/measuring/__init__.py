"""Measurements of finished checkpoints: one module a kind, each with `measure(setting)`, and `run` that makes and stores one.

No training imports anything from here, so an edit of a measurement leaves every trained result what it is.
"""
