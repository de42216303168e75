"""Random requests from the service's own OpenAPI description: whatever comes, no answer is a server error."""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from api.access.operator import operator_token
from api.access.settings import AccessSettings
from api.app import create_app
from orchestrator.access.schema import Scope
from orchestrator.access.tokens import Tokens
from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.parse import parse_study
from studies.submission import as_submission
from tests.api.conftest import SPEC, Driver, bearing

pytestmark = pytest.mark.filterwarnings("ignore")


folder = Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, folder)


def a_service(home: Path) -> FastAPI:
    """A service whose limits nobody meets."""
    home.mkdir(exist_ok=True)
    mlflow = "http://127.0.0.1:5000"
    chosen = Settings(home, f"sqlite:///{home}/retort.db", mlflow, mlflow, "auto", "http://127.0.0.1:8265", 1)
    return create_app(chosen, AccessSettings(home / "token", ("testserver",), requests=10**9, body_bytes=10**12))


def described(service: FastAPI, scope: Scope | None = Scope.ADMIN) -> Any:
    """The service as its OpenAPI document describes it, asked with a token of a scope, or with none."""
    home = service.state.settings.home
    store = Store(service.state.settings.database)
    headers = bearing(Tokens(store).create("random", "ann", scope)[1]) if scope else {}
    store.close()
    found = schemathesis.openapi.from_asgi("/openapi.json", service, headers=bearing(operator_token(home / "token")))
    found.config.update(headers=headers)
    # Every boundary of every field, a thousand times, is for the submissions.
    found.config.phases.coverage.enabled = False
    return found


def with_one_finished_study(home: Path) -> Path:
    """So that random requests meet something (and no stream waits for a study that nobody runs)."""
    home.mkdir()
    store = Store(f"sqlite:///{home}/retort.db")
    store.create_study(as_submission(parse_study(SPEC)))
    Driver(store, 1).train_all()
    store.close()
    return home


CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
submissions = described(a_service(folder / "submissions")).include(path="/v1/studies", method="POST")
submissions.config.phases.coverage.enabled = True
others = described(a_service(with_one_finished_study(folder / "others"))).exclude(path="/v1/studies", method="POST")
shared = a_service(with_one_finished_study(folder / "shared"))  # by those who can change little or nothing
of_submitters = described(shared, Scope.SUBMIT).exclude(path="/v1/studies", method="POST")
of_readers, of_nobody = described(shared, Scope.READ), described(shared, None)


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@submissions.parametrize()
@examples(100)
def test_100_random_specs_never_break_the_service(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)


@others.parametrize()
@examples(40)
def test_no_random_request_of_an_administrator_breaks_the_service(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS)


@of_submitters.parametrize()
@examples(10)
def test_no_random_request_of_a_submitter_goes_beyond_its_scope(case: schemathesis.Case) -> None:
    answer = case.call_and_validate(checks=CHECKS)
    if scope_of(case) == "admin":
        assert answer.status_code in (403, 415)


@of_readers.parametrize()
@examples(10)
def test_no_random_request_of_a_reader_changes_anything(case: schemathesis.Case) -> None:
    answer = case.call_and_validate(checks=CHECKS)
    if scope_of(case) in ("submit", "admin"):
        assert answer.status_code in (403, 415)


@of_nobody.parametrize()
@examples(10)
def test_no_random_request_of_nobody_known_is_answered(case: schemathesis.Case) -> None:
    answer = case.call_and_validate(checks=CHECKS)
    if scope_of(case) is not None:
        assert answer.status_code in (401, 415)


def scope_of(case: schemathesis.Case) -> str | None:
    """What the document says that the route asks for."""
    scope: str | None = case.operation.definition.raw.get("x-scope")
    return scope
