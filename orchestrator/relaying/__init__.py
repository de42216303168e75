"""From the database to MLflow: what has changed is told by a loop, and what MLflow shows wrongly is put right by another."""
