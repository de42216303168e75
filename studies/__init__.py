"""What can be asked for: the study spec, the catalogue of names it may use, and the resolved trial.

Pure data and validation; imports no torch, no ray, no database.
"""
