"""Passwords are read where they are needed and never handed on in the open."""

from pathlib import Path

import pytest
from sqlalchemy import make_url

from orchestrator.credentials import PASSWORD_FILE, NoCredentials, database_url, ray_token, without_password
from orchestrator.settings import settings

URL = "postgresql+psycopg://retort@db.example/retort"
OPEN = "postgresql+psycopg://retort:hunter2@db.example/retort"


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "password"
    file.write_text("p@ss/word\n")
    monkeypatch.setenv(PASSWORD_FILE, str(file))
    monkeypatch.setenv("RETORT_DATABASE_URL", URL)
    return file


def test_the_password_of_the_file_opens_the_database(secret: Path) -> None:
    assert database_url(URL).password == "p@ss/word"
    assert database_url("sqlite:////tmp/retort.db").password is None


def test_a_job_is_told_the_file_and_not_the_password(secret: Path) -> None:
    handed = settings().environment()
    assert handed["RETORT_DATABASE_URL"] == URL
    assert handed[PASSWORD_FILE] == str(secret)
    assert not any("p@ss" in value for value in handed.values())


def test_a_password_in_the_url_goes_to_jobs_by_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_FILE, raising=False)
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.setenv("RETORT_DATABASE_URL", OPEN)
    handed = settings().environment()
    assert handed["RETORT_DATABASE_URL"] == URL
    assert not any("hunter2" in value for value in handed.values())
    assert Path(handed[PASSWORD_FILE]).stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv(PASSWORD_FILE, handed[PASSWORD_FILE])
    assert database_url(handed["RETORT_DATABASE_URL"]) == make_url(OPEN)
    assert without_password(OPEN) == OPEN.replace("hunter2", "***")


def test_a_secret_that_cannot_be_read_is_named(secret: Path) -> None:
    secret.write_text("\n")
    with pytest.raises(NoCredentials, match=f"the secret {secret} is empty"):
        database_url(URL)
    secret.unlink()
    with pytest.raises(NoCredentials, match=f"the secret {secret} cannot be read"):
        database_url(URL)


def test_ray_asks_for_a_token_only_where_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert ray_token() is None
    (tmp_path / "token").write_text("abc\n")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert ray_token() == "abc"
