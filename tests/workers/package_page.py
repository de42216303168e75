"""A page that makes a package, done as it says: its files installed beside Retort, and code run where they are, in a process of its own."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page of the docs."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(), flags=re.DOTALL)


def install(page: str, folder: Path) -> None:
    """The page's first module, as pip leaves it: beside a `dist-info` with its entry points; and its study, `study.yaml`."""
    project = tomllib.loads(blocks(page, "toml")[0])
    (module,) = project["tool"]["setuptools"]["py-modules"]
    (folder / f"{module}.py").write_text(blocks(page, "python")[0])
    name, version = project["project"]["name"], project["project"]["version"]
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    sections = project["project"]["entry-points"].items()
    lines = [line for group, points in sections for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (folder / "study.yaml").write_text(blocks(page, "yaml")[0])


def run(folder: Path, code: str, **environment: str) -> str:
    """What a program prints that runs in the folder, with its packages installed."""
    own = {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
