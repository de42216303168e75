#!/bin/sh
# Serves MLflow on the database of MLFLOW_DATABASE (a SQLAlchemy URL without a password), whose password is in the file
# DATABASE_PASSWORD_FILE. It travels by the environment of this process only, so no command line shows it.
set -eu
[ -s "$DATABASE_PASSWORD_FILE" ] || { echo "mlflow: the secret $DATABASE_PASSWORD_FILE is missing; make it with docker/secrets.sh" >&2; exit 1; }
MLFLOW_BACKEND_STORE_URI=$(python -c '
import os
from sqlalchemy import make_url
password = open(os.environ["DATABASE_PASSWORD_FILE"]).read().strip()
print(make_url(os.environ["MLFLOW_DATABASE"]).set(password=password).render_as_string(hide_password=False))')
export MLFLOW_BACKEND_STORE_URI
exec mlflow server --host 0.0.0.0 --port 5000 --workers "${MLFLOW_WORKERS:-2}" --serve-artifacts \
  --artifacts-destination /var/lib/mlflow/artifacts --allowed-hosts "$MLFLOW_HOSTS"
