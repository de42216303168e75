"""`mlflow server` in one process: `python -m orchestrator.mlflow_server OPTIONS...`.

MLflow's own command is two: one that imports MLflow, readies the database and then only waits, and uvicorn beside it, which imports
MLflow once more. Here the first one becomes the server, which saves a half of the start and of the memory.
"""

import os
import sys
from typing import Any, NoReturn

import uvicorn  # before MLflow's server, which guards against foreign hosts and origins where it sees uvicorn loaded
from mlflow import server
from mlflow.cli import cli


def serve(command: list[str], *, extra_env: dict[str, str], **_: Any) -> NoReturn:
    """Stands in for what starts `python -m uvicorn ARGUMENTS...` with these variables."""
    os.environ.update(extra_env)
    sys.exit(uvicorn.main(command[command.index("uvicorn") + 1 :]))


if __name__ == "__main__":
    server._exec_cmd = serve
    cli(["server", *sys.argv[1:]])
