"""What MLflow was not told: sent again when somebody says so."""
