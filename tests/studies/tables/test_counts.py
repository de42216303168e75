"""How many trainings stand behind the papers' tables, once equal ones are one."""

from collections import Counter

import pytest

from studies.submission import read_submission
from studies.tables.shipped import table_ids


def trainings(kinds: tuple[str, ...], scale: str) -> dict[str, tuple[str, bool]]:
    """Identity -> (role, whether it is taken from the zoo instead of trained), one seed, over all shipped tables of these kinds."""
    found: dict[str, tuple[str, bool]] = {}
    for table in table_ids():
        if table.partition("/")[2].startswith(kinds):
            expansion = read_submission({"table": table, "scale": scale, "seeds": [0]}).expansion
            for trial in expansion.trials:
                found.setdefault(expansion.identities[trial.id], (trial.role, trial.weights is not None))
    return found


def test_the_17_tables_are_168_trainings_and_6_evaluations_at_paper_scale() -> None:
    roles = Counter(trainings(("table-",), "paper").values())
    assert sum(count for (_, taken), count in roles.items() if taken) == 6
    assert sum(count for (_, taken), count in roles.items() if not taken) == 168
    assert roles["distilled", False] == 110


@pytest.mark.parametrize("scale", ["nano", "smoke"])
def test_on_digits_some_of_them_are_the_same(scale: str) -> None:
    assert len(trainings(("table-",), scale)) == 155  # LD Table 3's FCOS, with centre sampling, is none of the other tables'


def test_with_the_figures_there_are_205_at_paper_scale() -> None:
    assert len(trainings(("table-", "figure-"), "paper")) == 205
