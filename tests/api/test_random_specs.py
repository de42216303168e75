"""Random requests from the service's own OpenAPI description: whatever comes, no answer is a server error."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from api.access.operator import operator_token
from api.access.settings import AccessSettings
from api.app import create_app
from orchestrator.settings import Settings
from orchestrator.store import Store
from studies.parse import parse_study
from studies.submission import as_submission
from tests.api.conftest import ADDRESS, SPEC, Driver, bearing

pytestmark = pytest.mark.filterwarnings("ignore")


folder = Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, folder)


def described_service(home: Path) -> Any:
    """A service of its own, as its OpenAPI document describes it."""
    mlflow = "http://127.0.0.1:5000"
    chosen = Settings(home, f"sqlite:///{home}/retort.db", mlflow, mlflow, "auto", "http://127.0.0.1:8265", 1)
    home.mkdir(exist_ok=True)
    headers = bearing(operator_token(home / "token"))
    service = create_app(chosen, AccessSettings(home / "token", requests=1_000_000, body_bytes=10**12))
    described = schemathesis.openapi.from_asgi("/openapi.json", service, base_url=ADDRESS, headers=headers)
    described.config.update(headers=headers)
    return described


def with_one_finished_study(home: Path) -> Path:
    """So that random requests meet something (and no stream waits for a study that nobody runs)."""
    store = Store(f"sqlite:///{home}/retort.db")
    store.create_study(as_submission(parse_study(SPEC)))
    Driver(store, 1).train_all()
    store.close()
    return home


CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
submissions = described_service(folder / "submissions").include(path="/v1/studies", method="POST")
others = described_service(with_one_finished_study(folder / "others")).exclude(path="/v1/studies", method="POST")
others.config.phases.coverage.enabled = False  # every boundary of every field, a thousand times: the submissions above have it


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@submissions.parametrize()
@examples(300)
def test_300_random_specs_never_break_the_service(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)


@others.parametrize()
@examples(40)
def test_no_random_request_breaks_the_service(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)
