"""What the numbers of a table are of: datasets by digest, versions of code and libraries, devices."""

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.reporting.results import Result
from studies.inert import one_line

_OWN = {"git_sha", "git_dirty", "code_version", "training_code", "device", "dataset", "weights"}  # the others are libraries


@dataclass(frozen=True)
class Provenance:
    """What the trials with results recorded, each value once and sorted. libraries: "torch 2.9.1"."""

    datasets: tuple[str, ...]
    commits: tuple[str, ...]
    training_codes: tuple[str, ...]
    libraries: tuple[str, ...]
    devices: tuple[str, ...]


def provenance(trials: Iterable[Result]) -> Provenance:
    """Of the trials that have results."""
    good = [trial for trial in trials if trial.state.good]
    distinct = {frozenset((trial.environment or {}).items()) for trial in good}  # few: trials of a study ran alike
    known = [{name: one_line(str(value)) for name, value in environment} for environment in distinct]

    def each(name: str) -> tuple[str, ...]:
        return tuple(sorted({environment[name] for environment in known if name in environment}))

    return Provenance(
        datasets=tuple(sorted({trial.dataset_digest for trial in good if trial.dataset_digest})),
        commits=each("git_sha"),
        training_codes=each("training_code"),
        libraries=tuple(sorted({f"{name} {value}" for environment in known for name, value in environment.items() if name not in _OWN})),
        devices=tuple(sorted({environment.get("device", "an unknown device") for environment in known})),
    )
