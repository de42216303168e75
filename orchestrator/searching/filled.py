"""A study's spec with what its searches found filled in, ready to be submitted again. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.searching.tried import Tried
from studies.space import arm_with
from studies.spec import StudySpec


def filled(spec: Mapping[str, Any], found: Mapping[str, Sequence[Tried]]) -> dict[str, Any]:
    """The spec without its search. found: by arm its best; of several each is an arm of its own, `ID-NUMBER`. An arm without any stays."""
    study = StudySpec.model_validate(spec)
    arms = []
    for arm in study.arms:
        best = found.get(arm.id, ())
        for tried in best:
            made = arm_with(study, arm, tried.values)
            arms.append(made.model_copy(update={"id": f"{arm.id}-{tried.number}"[-64:]}) if len(best) > 1 else made)
        if not best:
            arms.append(arm)
    said = study.model_dump(mode="json", exclude_defaults=True, exclude={"search", "arms"})
    order = ["name", "dataset", "scale", *(name for name in said if name not in {"name", "dataset", "scale"})]
    content = {name: said[name] for name in order if name in said}
    return content | {"arms": [arm.model_dump(mode="json", exclude_defaults=True) for arm in arms]}
