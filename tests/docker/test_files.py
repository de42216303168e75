"""The files that describe the containers agree with the code and with each other."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.settings import settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
MANIFESTS = [each for file in sorted((ROOT / "docker/kuberay").glob("*.yaml")) for each in yaml.safe_load_all(file.read_text())]
VERSION = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]  # type: ignore[index]
# What a deployment gives its service beside the settings themselves.
BESIDE = {"RETORT_DATABASE_PASSWORD_FILE", "RETORT_ALIVE_FILE", "RETORT_TOKEN_FILE", "RETORT_ALLOWED_HOSTS", "RETORT_BEHIND_LOGIN"}
FOR_PEOPLE = {"RETORT_MLFLOW_UI", "RETORT_ALLOWED_HOSTS"}  # who come from outside
COMPOSED = sorted(COMPOSE["services"])


def pods() -> list[dict[str, Any]]:
    """The pods that the manifests describe."""
    found = []
    for each in MANIFESTS:
        spec = each.get("spec", {})
        groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]] if each["kind"] == "RayCluster" else [spec]
        found += [group["template"]["spec"] for group in groups if "template" in group]
    return found


def environment_of_the_service() -> dict[str, str]:
    return next(each["data"] for each in MANIFESTS if each["kind"] == "ConfigMap" and each["metadata"]["name"] == "retort")


@pytest.mark.parametrize("part", COMPOSED)
def test_every_part_starts_again_and_says_whether_it_is_well(part: str) -> None:
    service = COMPOSE["services"][part]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]


@pytest.mark.parametrize("part", COMPOSED)
def test_nothing_is_published_beyond_this_machine_unless_somebody_says_so(part: str) -> None:
    for port in COMPOSE["services"][part].get("ports", []):
        assert port.startswith("${PUBLISH_ON:-127.0.0.1}:")


def test_mlflow_and_ray_are_reached_through_the_service_alone() -> None:
    assert [part for part in COMPOSED if "ports" in COMPOSE["services"][part]] == ["api", "prometheus"]
    for given in (COMPOSE["services"]["api"]["environment"], environment_of_the_service()):
        assert given["RETORT_BEHIND_LOGIN"] == "1"
        assert given["RETORT_MLFLOW_UI"].endswith("/mlflow")


@pytest.mark.parametrize("part", COMPOSED)
def test_no_secret_stands_in_the_environment(part: str) -> None:
    for name, value in COMPOSE["services"][part].get("environment", {}).items():
        if re.search("PASSWORD|TOKEN", name):
            assert value.startswith("/run/secrets/")
        assert not re.search(r"://[^/@]*:[^/@]*@", str(value))


def test_without_secrets_the_start_fails_with_a_sentence() -> None:
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("${RETORT_SECRETS:?there are no secrets yet, make them with docker/secrets.sh}/")


def test_the_script_makes_every_secret_and_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    script = tmp_path / "docker/secrets.sh"
    script.write_text((ROOT / "docker/secrets.sh").read_text())
    subprocess.run(["bash", script], check=True, capture_output=True)
    made = {file.name: file.read_text() for file in (tmp_path / "docker/secrets").iterdir()}
    assert made.keys() == COMPOSE["secrets"].keys()
    assert all(re.fullmatch("[0-9a-f]{64}", secret) for secret in made.values())
    assert (tmp_path / "docker/secrets").stat().st_mode & 0o777 == 0o700
    again = subprocess.run(["bash", script], check=True, capture_output=True, text=True)
    assert again.stdout == ""
    assert {file.name: file.read_text() for file in (tmp_path / "docker/secrets").iterdir()} == made


def test_the_service_is_given_settings_that_it_reads() -> None:
    known = settings().environment().keys() | BESIDE
    for given in (COMPOSE["services"]["orchestrator"]["environment"], environment_of_the_service()):
        assert {name for name in given if name.startswith("RETORT_")} <= known
        assert not re.search(
            "127.0.0.1|localhost",
            " ".join(str(value) for name, value in given.items() if name not in {"RETORT_MLFLOW_UI", "RETORT_ALLOWED_HOSTS"}),
        )


def test_images_are_those_of_this_version_and_named_exactly() -> None:
    for service in COMPOSE["services"].values():
        assert f"${{RETORT_VERSION:-{VERSION}}}" in service["image"] if "build" in service else re.search(r":v?\d+\.\d+", service["image"])
    for pod in pods():
        for container in pod["containers"]:
            ours = container["image"].startswith("retort-")
            assert container["image"].split(":")[1].startswith(VERSION) if ours else re.search(r":v?\d+\.\d+", container["image"])
    bases = [
        base
        for file in (ROOT / "docker").glob("*.Dockerfile")
        for base in re.findall(r"^ARG (?:PYTHON|CUDA)=(.*)$", file.read_text(), re.M)
    ]
    assert all(re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[a-z0-9.-]+", base) for base in bases)
    assert len({base for base in bases if base.startswith("python")}) == 1


@pytest.mark.parametrize("name", ["service", "node"])
def test_the_images_take_in_every_package(name: str) -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    file = (ROOT / f"docker/{name}.Dockerfile").read_text()
    let_in = (ROOT / ".dockerignore").read_text().splitlines()
    for package in packages:
        assert f"COPY {package} {package}\n" in file
        assert f"!{package}" in let_in


def test_no_container_of_ours_runs_as_root() -> None:
    for file in sorted((ROOT / "docker").glob("*.Dockerfile")):
        assert re.search(r"^USER (?!root)\w+$", file.read_text(), re.MULTILINE), file
    for pod in pods():
        if any(container["image"].startswith("retort-") for container in pod["containers"]):
            assert pod["securityContext"] == {"runAsUser": 10001, "runAsNonRoot": True, "fsGroup": 10001}
