"""A Retort copied while it runs, and put back elsewhere: database, what results need of the trials' files, MLflow's files."""
