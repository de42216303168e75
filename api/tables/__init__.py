"""The papers' tables at a glance: how many of their numbers and claims the newest studies reproduce."""
