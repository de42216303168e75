"""The catalogue over REST: what it lists is what a spec may name."""

import pytest
from fastapi.testclient import TestClient

from studies.catalog import BACKBONES, DATASETS, DETECTORS
from studies.methods import methods
from studies.shipped import shipped_studies
from tests.api.conftest import SPEC


@pytest.mark.parametrize(
    ("what", "ids"),
    [
        ("studies", shipped_studies()),
        ("detectors", DETECTORS),
        ("distillers", methods()),
        ("datasets", DATASETS),
        ("backbones", BACKBONES),
    ],
)
def test_everything_is_listed_by_id(service: TestClient, what: str, ids: dict[str, object]) -> None:
    assert [item["id"] for item in service.get(f"/v1/catalog/{what}").json()["items"]] == list(ids)


def test_a_distiller_tells_its_options_with_defaults_and_what_they_take(service: TestClient) -> None:
    distillers = {item["id"]: item for item in service.get("/v1/catalog/distillers").json()["items"]}
    options = {option["name"]: option for option in distillers["ld"]["options"]}
    assert (options["temperature"]["default"], options["temperature"]["allowed"]) == (10.0, "number > 0, <= 100")
    assert "student: feature pyramid outputs" in distillers["fitnet"]["needs"]


def test_every_distiller_is_accepted_with_its_listed_defaults(service: TestClient) -> None:
    for item in service.get("/v1/catalog/distillers").json()["items"]:
        options = {option["name"]: option["default"] for option in item["options"]}
        response = service.post("/v1/studies:plan", json={**SPEC, "arms": [{"id": "a", "distiller": item["id"], "options": options}]})
        misfit = response.status_code == 422 and response.json()["errors"][0]["field"] == "arms.0.distiller"
        assert response.status_code == 200 or misfit, response.json()


def test_the_openapi_document_shows_the_spec_with_the_names_it_takes(service: TestClient) -> None:
    document = service.get("/openapi.json").json()
    body = document["paths"]["/v1/studies"]["post"]["requestBody"]["content"]
    assert body["application/json"]["schema"] == {"$ref": "#/components/schemas/StudySpec"}
    schemas = document["components"]["schemas"]
    assert schemas["StudySpec"]["properties"]["dataset"]["enum"] == list(DATASETS)
    assert schemas["StudyNetwork"]["properties"]["detector"]["enum"] == list(DETECTORS)
    assert schemas["ProblemDocument"]["properties"]["errors"]["items"] == {"$ref": "#/components/schemas/FieldProblem"}
