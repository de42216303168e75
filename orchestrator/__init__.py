"""A study's life: plan, queue, drive (Ray Tune), record (database, MLflow), tabulate."""
