"""MLflow and Ray's dashboard behind the service's login."""
