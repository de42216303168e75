"""The service and the command stay light: no training library is imported, and the command only what it needs."""

import json
import subprocess
import sys

HEAVY = ["torch", "ray", "mmdet", "mmengine", "mmcv", "mlflow", "workers"]
SERVICE = "import pkgutil, importlib, api; [importlib.import_module(m.name) for m in pkgutil.walk_packages(api.__path__, 'api.')]"


def loaded_after(code: str, names: list[str]) -> list[str]:
    """Which of the modules are loaded in a fresh process after running the code."""
    ask = f"import json, sys; {code}; print(json.dumps([m for m in {names!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def test_no_module_of_the_service_imports_a_training_library() -> None:
    assert loaded_after(SERVICE, [*HEAVY, "fastapi"]) == ["fastapi"]


def test_the_command_starts_without_the_service_and_its_database() -> None:
    assert (
        loaded_after("import api.command.cli", [*HEAVY, "fastapi", "sqlalchemy", "pydantic", "httpx", "rich.live", "importlib.metadata"])
        == []
    )
