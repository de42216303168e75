"""The distillation step: `student.py` runs both networks, `step.py` says what a method is given, `captures.py` how that is taken."""
