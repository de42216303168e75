"""MLflow's client as it is used here."""

import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

# MLflow's client would hide an outage behind minutes of its own retries; the relay's loop does the waiting.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

T = TypeVar("T")


def mlflow_client(uri: str) -> MlflowClient:
    """Raises nothing yet: it connects with the first request."""
    return MlflowClient(tracking_uri=uri)


def answers(client: MlflowClient) -> bool:
    """Whether MLflow is there and answers a simple question."""
    try:
        client.search_experiments(max_results=1)
    except MlflowException:
        return False
    return True


def in_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive slices of at most `size` items."""
    return (items[start : start + size] for start in range(0, len(items), size))
