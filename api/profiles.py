"""Services by name, for those who speak to several: `retort --profile lab list`. A file of the user's own, which nobody else can read."""

import configparser
import os
from dataclasses import dataclass
from pathlib import Path


class NoSuchProfile(LookupError):
    """There is no profile of this name; the text says which there are."""


@dataclass(frozen=True)
class Profile:
    """Where a service is, and the token for it."""

    url: str
    token: str | None = None


def profiles_file() -> Path:
    """Where profiles are kept: `retort/profiles.ini` in the user's folder for configuration."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "retort" / "profiles.ini"


def profiles() -> dict[str, Profile]:
    """All profiles by name."""
    found = _read()
    return {name: Profile(found[name]["url"], found[name].get("token")) for name in found.sections()}


def read_profile(name: str) -> Profile:
    """Raises NoSuchProfile."""
    known = profiles()
    if name not in known:
        raise NoSuchProfile(f"there is no profile {name!r}; there are: {', '.join(known) or 'none'} (retort profile add)")
    return known[name]


def add_profile(name: str, profile: Profile) -> None:
    """Keep a profile, in the place of one of the same name."""
    kept = _read()
    kept[name] = {"url": profile.url, **({"token": profile.token} if profile.token else {})}
    _write(kept)


def remove_profile(name: str) -> None:
    """Forget a profile. Raises NoSuchProfile."""
    read_profile(name)
    kept = _read()
    kept.remove_section(name)
    _write(kept)


def _read() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, default_section="")
    found.read(profiles_file(), encoding="utf-8")
    return found


def _write(kept: configparser.ConfigParser) -> None:
    file = profiles_file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as target:
        kept.write(target)
    partial.replace(file)
