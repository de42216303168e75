"""Routes of tokens, links to the pages, and the audit."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import ValidationError

from api.access.callers import AuditOf, HolderOf, TokensOf, needs
from api.access.schemas import ActAnswer, ActPage, LinkAnswer, MadeToken, NewToken, TokenAnswer, TokenList
from api.bodies import read_data
from api.problems import ProblemError, conflict, not_found, responses
from api.times import at, maybe_at
from orchestrator.access.schema import Act, Scope, Token
from orchestrator.access.tokens import LINK_SECONDS, NoSuchToken, TokenOfFile
from studies.problems import Problem, problems_of

_LARGEST = 2**63 - 1
_DAY = 24 * 3600 * 1000
_FORMS = ("application/json", "application/yaml")
_BODY = {
    "requestBody": {"required": True, "content": {form: {"schema": {"$ref": "#/components/schemas/NewToken"}} for form in _FORMS}},
}
TokenId = Annotated[int, Path(ge=1, le=_LARGEST)]
tokens = APIRouter(prefix="/v1/tokens", tags=["access"], dependencies=[needs(Scope.ADMIN)])
others = APIRouter(prefix="/v1", tags=["access"])


async def _wanted(request: Request) -> NewToken:
    data: Any = await read_data(request)
    try:
        return NewToken.model_validate(data)
    except ValidationError as error:
        problems = problems_of(error, (), NewToken) if isinstance(data, dict) else [Problem("", "a token is a mapping with a name")]
        raise ProblemError(422, "invalid-token", "The token is not valid", problems[0].message, problems) from None


@tokens.post("", status_code=201, openapi_extra=_BODY, responses=responses(400, 413, 422))
def create(
    wanted: Annotated[NewToken, Depends(_wanted)], tokens: TokensOf, holder: HolderOf, audit: AuditOf, response: Response
) -> MadeToken:
    """Make a token. Its secret is in this answer alone."""
    expires = None if wanted.days is None else tokens.store.now() + wanted.days * _DAY
    token, secret = tokens.create(wanted.name, wanted.owner or holder.owner, wanted.scope, expires)
    audit.note(holder, "token.create", f"token {token.id}", name=token.name, owner=token.owner, scope=token.scope)
    response.headers["Location"] = f"/v1/tokens/{token.id}"
    response.headers["Cache-Control"] = "no-store"
    return MadeToken(**_answer(token).model_dump(), token=secret)


@tokens.get("")
def all_(tokens: TokensOf) -> TokenList:
    """All tokens, those that expired or were revoked too."""
    return TokenList(items=[_answer(each) for each in tokens.all()])


@tokens.get("/{token_id}", responses=responses(404, 422))
def token(token_id: TokenId, tokens: TokensOf) -> TokenAnswer:
    """One token."""
    try:
        return _answer(tokens.token(token_id))
    except NoSuchToken:
        raise not_found("token", str(token_id)) from None


@tokens.delete("/{token_id}", responses=responses(404, 409, 422))
def revoke(token_id: TokenId, tokens: TokensOf, holder: HolderOf, audit: AuditOf) -> TokenAnswer:
    """Answer nothing to it any more, nor to pages that were opened with it."""
    try:
        revoked = tokens.revoke(token_id)
    except NoSuchToken:
        raise not_found("token", str(token_id)) from None
    except TokenOfFile as error:
        raise conflict("token-of-file", str(error)) from None
    audit.note(holder, "token.revoke", f"token {token_id}")
    return _answer(revoked)


@others.post("/links", status_code=201, dependencies=[needs(Scope.READ)])
def link(tokens: TokensOf, holder: HolderOf, audit: AuditOf, response: Response) -> LinkAnswer:
    """A link that opens the pages once, with what this token allows."""
    expires = tokens.store.now() + LINK_SECONDS * 1000
    path = f"/login?link={tokens.link(holder.token_id)}"
    audit.note(holder, "link.create", f"token {holder.token_id}")
    response.headers["Cache-Control"] = "no-store"
    return LinkAnswer(path=path, expires=at(expires))


@others.get("/audit", dependencies=[needs(Scope.ADMIN)], responses=responses(422))
def acts(
    audit: AuditOf,
    cursor: Annotated[int | None, Query(ge=1, le=_LARGEST, description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    subject: Annotated[
        str | None, Query(max_length=64, pattern=r"^[a-z]+( [ -~]+)?$", description='what it was done to: "study 3", "outbox"')
    ] = None,
) -> ActPage:
    """Who changed what, newest first."""
    found = audit.acts(cursor, limit + 1, subject)
    return ActPage(items=[_act(each) for each in found[:limit]], next=str(found[limit - 1].id) if len(found) > limit else None)


def _answer(token: Token) -> TokenAnswer:
    return TokenAnswer(
        id=token.id,
        name=token.name,
        owner=token.owner,
        scope=token.scope,
        from_file=token.from_file,
        created=at(token.created),
        expires=maybe_at(token.expires),
        used=maybe_at(token.used),
        revoked=maybe_at(token.revoked),
    )


def _act(act: Act) -> ActAnswer:
    return ActAnswer(
        id=act.id, time=at(act.time), owner=act.owner, token=act.token_id, action=act.action, subject=act.subject, detail=act.detail
    )
