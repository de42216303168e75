"""Log lines of the service, the drivers and the trials: readable as they are, with fields such as `study=3 trial=ld/seed-0` to grep for."""

import json
import logging
import sys
import time
from typing import Any

FIELDS = ("study", "attempt", "trial")


class KeyValues(logging.Formatter):
    """`2026-11-21T17:00:00.123Z INFO orchestrator.driving.jobs study=3 attempt=1: message`. context: fields of every line."""

    def __init__(self, **context: Any) -> None:
        super().__init__()
        self.context = context

    def format(self, record: logging.LogRecord) -> str:
        known = {name: getattr(record, name, self.context.get(name)) for name in FIELDS}
        fields = "".join(f" {name}={_value(value)}" for name, value in known.items() if value is not None)
        when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"
        message = record.getMessage().replace("\n", "\\n")
        trace = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{when} {record.levelname} {record.name}{fields}: {message}{trace}"


def configure(**context: Any) -> None:
    """This process logs to its standard error. context: study, attempt or trial that all its lines are about."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValues(**context))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def _value(value: Any) -> str:
    text = str(value)
    return text if text.replace("-", "").replace("/", "").replace(".", "").replace("_", "").isalnum() else json.dumps(text)
