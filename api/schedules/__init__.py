"""Schedules: add, look at, pause, resume, remove."""
