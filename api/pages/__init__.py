"""Pages for people: rendered by the service from templates, light or dark, with nothing loaded from anywhere else."""
