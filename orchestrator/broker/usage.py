"""What an owner has used of the cluster lately: device time, that of long ago counting less. Pure."""

HALF_LIFE = 24 * 3600.0  # seconds after which device time counts half


def after(used: float, share: float, seconds: float) -> float:
    """The usage `seconds` later, of an owner who had `used` and holds `share` of the cluster since; in seconds of the whole cluster."""
    kept: float = 0.5 ** (seconds / HALF_LIFE)
    added: float = share * seconds * 0.5 ** (seconds / 2 / HALF_LIFE)
    return used * kept + added
