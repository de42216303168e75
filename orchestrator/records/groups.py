"""The machine's groups of trials as conditions on rows, so that thousands move in one statement."""

from sqlalchemy import ColumnElement, and_, select

from orchestrator.machine import KEPT, OPEN, Group, TrialState
from orchestrator.records.schema import Need, Trial

LAST_LACKING = and_(Trial.state == TrialState.WAITING, Trial.lacking == 1)  # a trial waits for one result alone


def members(study_id: int, group: Group, of: Trial | None = None) -> list[ColumnElement[bool]]:
    """What rows of `trial` in the group satisfy, before it moves. of: the trial whose students or dependents they are."""
    mine: list[ColumnElement[bool]] = [Trial.study_id == study_id]
    match group:
        case Group.RUNNING:
            return [*mine, Trial.state == TrialState.RUNNING]
        case Group.OPEN:
            return [*mine, Trial.state.in_(OPEN)]
        case Group.STARTABLE:
            return [*mine, Trial.state.not_in(KEPT), Trial.lacking == 0]
        case Group.LACKING:
            return [*mine, Trial.state.not_in(KEPT), Trial.lacking > 0]
    assert of is not None
    if group == Group.STUDENTS:
        needing = select(Need.trial_id).where(Need.needed_id == of.id)
        return [Trial.id.in_(needing), LAST_LACKING]
    below = select(Need.trial_id).where(Need.needed_id == of.id).cte("below", recursive=True)
    below = below.union(select(Need.trial_id).join(below, Need.needed_id == below.c.trial_id))
    return [Trial.id.in_(select(below.c.trial_id)), Trial.state == TrialState.WAITING]
