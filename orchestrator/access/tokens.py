"""Tokens, and the passes that open pages in their name, in the database."""

import threading
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, sessionmaker

from orchestrator.access.schema import Pass, Scope, Token
from orchestrator.access.secrets import digest, new_secret, new_token
from orchestrator.records.store import Store

SESSION_SECONDS = 14 * 24 * 3600  # how long a browser stays logged in
LINK_SECONDS = 15 * 60  # how long a link waits for its one use


class NoSuchToken(LookupError):
    """There is no token with this id."""


class TokenOfFile(ValueError):
    """The operator's token cannot be revoked from within: nobody could make another."""


@dataclass(frozen=True)
class Holder:
    """Who asks: a valid token, or a browser's session in its name."""

    token_id: int
    name: str
    owner: str
    scope: Scope


class Tokens:
    """The tokens of a store, on its clock. Last uses are kept in memory until `note_uses`: a request that reads writes nothing."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._reads = sessionmaker(store.engine, expire_on_commit=False)
        self._writes = sessionmaker(store.engine.execution_options(retort_writes=True), expire_on_commit=False)
        self._uses: dict[int, int] = {}
        self._lock = threading.Lock()

    # --- for those who ask for them

    def create(self, name: str, owner: str, scope: Scope, expires: int | None = None) -> tuple[Token, str]:
        """A new token, and its secret, which is told this once."""
        secret = new_token()
        with self._writes.begin() as session:
            token = Token(name=name, owner=owner, scope=scope, digest=digest(secret), created=self.store.now(), expires=expires)
            session.add(token)
        return token, secret

    def all(self) -> list[Token]:
        """Oldest first, those that expired or were revoked too."""
        self.note_uses()
        with self._reads() as session:
            return list(session.scalars(select(Token).order_by(Token.id)))

    def token(self, token_id: int) -> Token:
        """Raises NoSuchToken."""
        with self._reads() as session:
            return _token(session, token_id)

    def revoke(self, token_id: int) -> Token:
        """Nothing is answered to it any more, nor to the sessions in its name. Raises NoSuchToken, TokenOfFile."""
        with self._writes.begin() as session:
            token = _token(session, token_id)
            if token.from_file:
                raise TokenOfFile("it is the one in the service's token file; put another there, and start the service again")
            token.revoked = token.revoked or self.store.now()
            session.execute(delete(Pass).where(Pass.token_id == token_id))
        return token

    def take_from_file(self, secret: str, owner: str) -> None:
        """The operator's token, which an administrator's first step needs: what the file holds is valid, what it held before is not."""
        with self._writes.begin() as session:
            token = session.scalar(select(Token).where(Token.from_file))
            if token is None:
                token = Token(name="operator", scope=Scope.ADMIN, from_file=True, created=self.store.now())
                session.add(token)
            elif token.digest != digest(secret):
                session.execute(delete(Pass).where(Pass.token_id == token.id))
            token.digest, token.owner = digest(secret), owner

    # --- who asks

    def holder(self, secret: str) -> Holder | None:
        """Whose token this is; None where it is none, has expired or was revoked."""
        with self._reads() as session:
            return self._valid(session.scalar(select(Token).where(Token.digest == digest(secret))))

    def holder_of_session(self, secret: str) -> Holder | None:
        """In whose name a browser asks that shows this cookie."""
        query = select(Token).join(Pass).where(Pass.digest == digest(secret), Pass.once.is_(False), Pass.expires > self.store.now())
        with self._reads() as session:
            return self._valid(session.scalar(query))

    def _valid(self, token: Token | None) -> Holder | None:
        now = self.store.now()
        if token is None or token.revoked is not None or (token.expires is not None and token.expires <= now):
            return None
        with self._lock:
            self._uses[token.id] = now
        return Holder(token.id, token.name, token.owner, token.scope)

    # --- pages

    def link(self, token_id: int) -> str:
        """The secret of a link that opens pages once, in the name of a token."""
        return self._pass(token_id, once=True, seconds=LINK_SECONDS)

    def session(self, token_id: int) -> str:
        """The secret of a browser's session in the name of a token."""
        return self._pass(token_id, once=False, seconds=SESSION_SECONDS)

    def _pass(self, token_id: int, once: bool, seconds: int) -> str:
        secret = new_secret()
        with self._writes.begin() as session:
            session.add(Pass(digest=digest(secret), token_id=token_id, once=once, expires=self.store.now() + seconds * 1000))
        return secret

    def follow(self, link: str) -> Holder | None:
        """In whose name a link opens pages; the second time, and when it is too late, None."""
        with self._writes.begin() as session:
            found = session.get(Pass, digest(link))
            if found is None or not found.once:
                return None
            session.delete(found)
            return self._valid(session.get(Token, found.token_id)) if found.expires > self.store.now() else None

    def leave(self, secret: str) -> None:
        """The session with this cookie is over."""
        with self._writes.begin() as session:
            session.execute(delete(Pass).where(Pass.digest == digest(secret), Pass.once.is_(False)))

    # --- the minute's work

    def note_uses(self) -> None:
        """Write down the last uses since the last time."""
        with self._lock:
            uses, self._uses = self._uses, {}
        if uses:
            with self._writes.begin() as session:
                for token_id, time in uses.items():
                    session.execute(update(Token).where(Token.id == token_id).values(used=time))

    def forget_expired(self) -> None:
        """Take out passes that open nothing any more."""
        expired = Pass.expires <= self.store.now()
        with self._reads() as session:
            if session.scalar(select(Pass.digest).where(expired).limit(1)) is None:
                return
        with self._writes.begin() as session:
            session.execute(delete(Pass).where(expired))


def _token(session: Session, token_id: int) -> Token:
    token = session.get(Token, token_id)
    if token is None:
        raise NoSuchToken(f"there is no token {token_id}")
    return token
