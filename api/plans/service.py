"""Several studies in one request, and the answer with their sum."""

from typing import Any

from api.plans.schemas import MOST, MOST_TRIALS, PlansAnswer, PlanTotal, StudyShare
from api.studies.service import sums
from orchestrator.plan import Plan, Share, together
from orchestrator.records.store import Store
from studies.costs import EFFICIENCY
from studies.problems import Problem, SpecError
from studies.submission import Submission, read_submission


def read_submissions(data: Any) -> list[Submission]:
    """The studies of a request. Raises SpecError, which names every field that is wrong behind its study: `studies.3.dataset`."""
    if not isinstance(data, dict) or not isinstance(data.get("studies"), list):
        raise SpecError([Problem("studies", "a list of studies, each a spec, a table, or {table: ID}")])
    if strange := sorted(str(key)[:80] for key in data.keys() - {"studies"}):
        raise SpecError([Problem(name, "nothing but `studies` is asked here") for name in strange])
    documents = data["studies"]
    if not 1 <= len(documents) <= MOST:
        raise SpecError([Problem("studies", f"{len(documents)} studies; between 1 and {MOST}")])
    problems: list[Problem] = []
    found: list[Submission] = []
    trials = 0
    for place, document in enumerate(documents):
        try:
            found.append(read_submission(document))
        except SpecError as refused:
            problems += [Problem(".".join(filter(None, ("studies", str(place), p.field))), p.message) for p in refused.problems]
            continue
        trials += len(found[-1].expansion.trials)
        if trials > MOST_TRIALS:
            raise SpecError([Problem(f"studies.{place}", f"more than {MOST_TRIALS:,} trials with the studies before it; ask in parts")])
    if problems:
        raise SpecError(problems)
    return found


def plans(submissions: list[Submission], store: Store) -> PlansAnswer:
    """What would run of each beside those before it, and of all together."""
    shares = together(submissions, store)
    everything = Plan(
        [step for share in shares for step in share.left.steps],
        [step for share in shares for step in share.left.measurements],
        "gpu" if any(s.plan.device == "gpu" for s in shares) else "cpu",
    )
    return PlansAnswer(
        studies=[_answer(*pair) for pair in zip(submissions, shares, strict=True)],
        total=PlanTotal(**sums(everything), trials=len(everything.steps), reused=len(everything.steps) - everything.to_run),
        efficiency=EFFICIENCY,
    )


def _answer(submission: Submission, share: Share) -> StudyShare:
    study = submission.spec
    return StudyShare(
        **sums(share.left),
        name=study.name,
        table=submission.presentation.table,
        scale=study.scale,
        dataset=study.dataset,
        device=share.plan.device,
        trials=len(share.plan.steps),
        shared=share.shared,
        reused=len(share.left.steps) - share.left.to_run,
    )
