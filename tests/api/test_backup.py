"""`retort backup` and `retort restore` as a person types them: what they say, and that a second try changes nothing."""

import os
import subprocess
from pathlib import Path

from orchestrator.records.store import Store
from orchestrator.settings import Settings
from studies.parse import parse_study
from studies.submission import as_submission
from tests.api.commands import Commands
from tests.api.conftest import SPEC


def test_a_home_comes_back_elsewhere_and_what_is_wrong_is_a_line(
    store: Store, settings: Settings, tmp_path: Path, commands: Commands
) -> None:
    def retort(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RETORT_")} | {"RETORT_HOME": str(home)}
        return commands.run(*arguments, environment=environment, folder=tmp_path)

    study, _ = store.create_study(as_submission(parse_study(SPEC)))
    folder, new = tmp_path / "elsewhere" / "monday", tmp_path / "elsewhere" / "home"
    made = retort(settings.home, "backup", str(folder))
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.splitlines()[-1].endswith("; MLflow keeps its files elsewhere, they are not in it")
    again = retort(settings.home, "backup", str(folder))
    assert (again.returncode, again.stderr) == (1, f"{folder} is there already; a backup replaces nothing, name another folder\n")
    back = retort(new, "restore", str(folder))
    assert (back.returncode, back.stderr) == (0, "")
    assert f"restored to {new}, 1 files as they were backed up; start it: retort up" in back.stdout
    there = Store(f"sqlite:///{new}/retort.db")
    assert [each.name for each in there.trials(study.id)] == [each.name for each in store.trials(study.id)]
    there.close()
    twice = retort(new, "restore", str(folder))
    assert twice.returncode == 1
    assert twice.stderr.startswith(f"{new} is not empty (retort.db")
    away = retort(tmp_path / "other", "restore", str(tmp_path / "nothing"))
    assert (away.returncode, away.stderr) == (1, f"{tmp_path / 'nothing'} is no backup: it has no backup.json\n")
    full = retort(settings.home, "backup", "/proc/backup")
    assert full.returncode == 1
    assert len(full.stderr.splitlines()) == 1
    nowhere = retort(tmp_path / "nobody's", "backup", str(tmp_path / "of nothing"))
    assert nowhere.returncode == 1
    assert nowhere.stderr.startswith(f"there is no {tmp_path}/nobody's/retort.db; a backup is made where the service's state is")
    assert not (tmp_path / "of nothing").exists()
