"""Secrets of the service: how they are made and what of them is stored.

SHA-256 is enough for them. A slow hash (argon2, bcrypt) protects what people think up, which can be guessed; here is nothing to guess
but 256 random bits, and a slow hash would cost every request its time.
"""

import hashlib
import secrets

TOKEN_PREFIX = "retort_"  # so that a person, and a scanner for leaked secrets, knows what it is


def new_token() -> str:
    """A token: 256 random bits, in 43 characters behind the prefix."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def new_secret() -> str:
    """256 random bits in 43 characters that a URL takes."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What is stored of a secret, and looked up by: a comparison's time tells nothing about the secret behind a hash."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
