"""Starting a student from its teacher's neck and head, as FGD and MGD do where the two have the same ones."""

import logging

from torch import nn

from studies.trial import TrialFailure


def inherit_neck_and_head(student: nn.Module, teacher: nn.Module, required: bool) -> bool:
    """Copies every weight of the teacher outside the backbone into the student; all of them or, where they do not fit, none.

    required: raise TrialFailure("user") where they do not fit. Returns whether they were copied.
    """
    theirs = {name: value for name, value in teacher.state_dict().items() if not name.startswith("backbone.")}
    ours = {name: value for name, value in student.state_dict().items() if not name.startswith("backbone.")}
    unlike = sorted(
        name for name in ours.keys() | theirs.keys() if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape
    )
    if not unlike:
        student.load_state_dict(theirs, strict=False)
        return True
    sentence = (
        f"the student cannot start from the teacher's neck and head: {len(unlike)} tensors are not the same in both, {unlike[0]!r} first; "
        "use `inherit: false`"
    )
    if required:
        raise TrialFailure("user", sentence)
    logging.getLogger(__name__).info("%s", sentence)
    return False
