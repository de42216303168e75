"""Plans of several studies in one request."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from orchestrator.records.store import Store
from studies.tables.shipped import numbered_tables
from tests.api.conftest import SPEC, Driver
from tests.api.test_problems import problem

TABLES = [{"table": f"frs2021/table-{number}", "scale": "paper"} for number in (1, 3)]


def test_studies_are_answered_in_order_with_what_they_share_and_their_sum(service: TestClient) -> None:
    answer = service.post("/v1/plans", json={"studies": TABLES}).json()
    first, second = answer["studies"]
    assert (first["table"], first["scale"], first["dataset"], first["device"]) == ("frs2021/table-1", "paper", "coco", "gpu")
    assert [study["trials"] for study in answer["studies"]] == [14, 5]
    assert [(study["shared"], study["to_train"], study["to_evaluate"]) for study in answer["studies"]] == [(0, 10, 4), (3, 2, 0)]
    total = answer["total"]
    assert (total["trials"], total["to_train"], total["to_evaluate"], total["estimated"]) == (16, 12, 4, 16)
    assert total["gpu_hours"]["H100"] == pytest.approx(first["gpu_hours"]["H100"] + second["gpu_hours"]["H100"])


def test_the_order_decides_who_pays_not_the_sum(service: TestClient) -> None:
    there, back = (service.post("/v1/plans", json={"studies": each}).json() for each in (TABLES, TABLES[::-1]))
    assert there["total"]["gpu_hours"] == pytest.approx(back["total"]["gpu_hours"])
    assert [study["shared"] for study in back["studies"]] == [0, 3]


def test_finished_trials_and_specs_of_arms_are_counted_too(service: TestClient, store: Store) -> None:
    service.post("/v1/studies", json=SPEC)
    Driver(store, 1).train_all()
    answer = service.post("/v1/plans", json={"studies": [{**SPEC, "seeds": [7]}, {**SPEC, "seeds": [7, 8]}]}).json()
    assert [(study["trials"], study["shared"], study["to_train"]) for study in answer["studies"]] == [(3, 0, 3), (5, 3, 2)]
    assert (answer["total"]["measured"], answer["total"]["device_seconds"], answer["total"]["gpu_hours"]) == (5, 100.0, {})


def test_all_tables_of_the_papers_are_168_trainings_and_6_evaluations(service: TestClient) -> None:
    asked = [{"table": table, "scale": "paper"} for table in numbered_tables()]
    total = service.post("/v1/plans", json={"studies": asked}).json()["total"]
    assert (total["to_train"], total["to_evaluate"], total["reused"], total["unknown"]) == (168, 6, 0, 0)


REFUSED = [
    ({"studies": [SPEC, {**SPEC, "dataset": "digit"}]}, "studies.1.dataset", "did you mean 'digits'?"),
    ({"studies": [{"table": "frs2021/table-9"}]}, "studies.0.table", "no table 'frs2021/table-9' ships"),
    ({"studies": [SPEC, "digits"]}, "studies.1", "a study is a mapping"),
    ({"studies": []}, "studies", "between 1 and 100"),
    ({"studies": [{}] * 101}, "studies", "between 1 and 100"),
    ({"studies": SPEC}, "studies", "a list of studies"),
    ([SPEC], "studies", "a list of studies"),
    ({"studies": [SPEC], "force": True}, "force", "nothing but `studies`"),
    (
        {"studies": [{**SPEC, "seeds": list(range(50)), "search": {"space": {"weight": {"grid": list(range(100))}}}}] * 5},
        "studies.3",
        "more than 20,000 trials",
    ),
]


@pytest.mark.parametrize(("body", "field", "told"), REFUSED)
def test_a_refusal_names_the_study_and_its_field(service: TestClient, body: Any, field: str, told: str) -> None:
    errors = problem(service.post("/v1/plans", json=body), 422)["errors"]
    assert errors[0]["field"] == field
    assert told in errors[0]["message"]
