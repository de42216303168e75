"""Routes of webhooks."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import ValidationError

from api.access.callers import AuditOf, HolderOf, needs
from api.bodies import read_data
from api.dependencies import StoreOf
from api.problems import ProblemError, not_found, responses
from api.times import at, maybe_at
from api.webhooks.schemas import DeliveryAnswer, MadeWebhook, NewWebhook, TryAnswer, WebhookAnswer, WebhookDetail, WebhookList
from orchestrator.access.schema import Scope
from orchestrator.webhooks.schema import Delivery, Webhook
from orchestrator.webhooks.store import NoSuchWebhook, Webhooks
from studies.problems import Problem, problems_of

_FORMS = ("application/json", "application/yaml")
_BODY = {
    "requestBody": {"required": True, "content": {form: {"schema": {"$ref": "#/components/schemas/NewWebhook"}} for form in _FORMS}},
}


async def _wanted(request: Request) -> NewWebhook:
    data: Any = await read_data(request)
    try:
        return NewWebhook.model_validate(data)
    except ValidationError as error:
        problems = problems_of(error, (), NewWebhook) if isinstance(data, dict) else [Problem("", "a webhook is a mapping with a url")]
        raise ProblemError(422, "invalid-webhook", "The webhook is not valid", problems[0].message, problems) from None


def _webhooks(store: StoreOf) -> Webhooks:
    return Webhooks(store)


def _known(webhook_id: Annotated[int, Path(ge=1, le=2**63 - 1)], store: StoreOf) -> Webhook:
    try:
        return Webhooks(store).webhook(webhook_id)
    except NoSuchWebhook:
        raise not_found("webhook", str(webhook_id)) from None


WebhooksOf = Annotated[Webhooks, Depends(_webhooks)]
Known = Annotated[Webhook, Depends(_known)]
router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], dependencies=[needs(Scope.ADMIN)])


@router.post("", status_code=201, openapi_extra=_BODY, responses=responses(400, 413, 422))
def add(
    wanted: Annotated[NewWebhook, Depends(_wanted)], webhooks: WebhooksOf, holder: HolderOf, audit: AuditOf, response: Response
) -> MadeWebhook:
    """Tell an address of what happens to studies from now on. The secret is in this answer alone."""
    made = webhooks.add(wanted.url, sorted(set(wanted.events)), holder.owner)
    audit.note(holder, "webhook.add", f"webhook {made.id}", url=made.url)
    response.headers["Location"] = f"/v1/webhooks/{made.id}"
    response.headers["Cache-Control"] = "no-store"
    return MadeWebhook(**_answer(made).model_dump(), secret=made.secret)


@router.get("")
def all_(webhooks: WebhooksOf) -> WebhookList:
    """Webhooks, oldest first."""
    return WebhookList(items=[_answer(each) for each in webhooks.all()])


@router.get("/{webhook_id}", responses=responses(404, 422))
def webhook(webhook: Known, webhooks: WebhooksOf) -> WebhookDetail:
    """One webhook with what it was told."""
    return WebhookDetail(**_answer(webhook).model_dump(), deliveries=[_delivery(each) for each in webhooks.deliveries(webhook.id)])


@router.delete("/{webhook_id}", status_code=204, responses=responses(404, 422))
def remove(webhook: Known, webhooks: WebhooksOf, holder: HolderOf, audit: AuditOf) -> None:
    """Tell it nothing more."""
    webhooks.remove(webhook.id)
    audit.note(holder, "webhook.remove", f"webhook {webhook.id}")


def _answer(webhook: Webhook) -> WebhookAnswer:
    return WebhookAnswer(id=webhook.id, url=webhook.url, owner=webhook.owner, events=webhook.kinds, created=at(webhook.created))


def _delivery(delivery: Delivery) -> DeliveryAnswer:
    return DeliveryAnswer(
        message=delivery.message,
        event=delivery.kind,
        state="delivered" if delivery.delivered else "waiting" if delivery.due else "given up",
        created=at(delivery.created),
        next=maybe_at(delivery.due),
        tries=[TryAnswer(time=at(each["time"]), status=each["status"], error=each["error"]) for each in delivery.tries],
        content=json.loads(delivery.body),
    )
