"""What proves to the database and to Ray who asks: read from files where it is needed, never handed on in the environment of a job."""

import os
from pathlib import Path

from sqlalchemy import URL, make_url

PASSWORD_FILE = "RETORT_DATABASE_PASSWORD_FILE"


class NoCredentials(Exception):
    """A secret that is asked for cannot be read; the text says which."""


def database_url(url: str) -> URL:
    """The database's URL with the password from the file that RETORT_DATABASE_PASSWORD_FILE names, where it does. Raises NoCredentials."""
    file = os.environ.get(PASSWORD_FILE)
    made = make_url(url)
    return made.set(password=_read(Path(file), PASSWORD_FILE)) if file and made.host else made


def without_password(url: str) -> str:
    """The database's URL as others may see it."""
    return make_url(url).render_as_string(hide_password=True)


def handed_to_jobs(url: str, home: Path) -> dict[str, str]:
    """The variables that make a job open this database. Ray keeps and shows a job's environment, so a password in the URL goes by a file
    in the state folder that only its owner reads."""
    made = make_url(url)
    file = os.environ.get(PASSWORD_FILE)
    if made.password:
        kept = home / "run" / "database-password"
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept.touch(mode=0o600)
        kept.write_text(str(made.password))
        file = str(kept)
    open_url = URL.create(made.drivername, made.username, None, made.host, made.port, made.database, made.query)
    return {"RETORT_DATABASE_URL": open_url.render_as_string(), **({PASSWORD_FILE: file} if file else {})}


def ray_token() -> str | None:
    """The token that Ray's dashboard asks for, from where Ray itself looks for it; None where it asks for none. Raises NoCredentials."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    return _read(Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser(), "RAY_AUTH_TOKEN_PATH")


def _read(file: Path, variable: str) -> str:
    try:
        found = file.read_text().strip()
    except OSError as error:
        raise NoCredentials(f"{variable}: the secret {file} cannot be read ({error.strerror})") from None
    if not found:
        raise NoCredentials(f"{variable}: the secret {file} is empty")
    return found
