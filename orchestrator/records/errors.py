"""What the records refuse: a study that is not there, a key that was used before, a driver that is no longer in charge."""


class NoSuchStudy(LookupError):
    """There is no study with this id."""


class NoSuchTrial(LookupError):
    """The study has no trial of this name."""


class IdempotencyMismatch(ValueError):
    """An idempotency key that was used before, with another spec."""


class Superseded(Exception):
    """The caller is the driver of an attempt that is over; it must stop and write nothing more."""


class LeaseLost(Superseded):
    """Another has taken over the folder of a trial; whoever trained it may write nothing more of it."""
