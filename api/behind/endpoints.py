"""`/mlflow` and `/ray`: MLflow's pages and interface, and Ray's dashboard, for those whom this service knows.

In MLflow, who may read looks at everything, and administrators change it. Ray's dashboard shows every process of the cluster and the
environment of its jobs, so it is for administrators, and to look at alone: what its job server would take is code.
"""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from api.access.callers import AuditOf, HolderOf, needs
from api.behind.forwarding import Behind, not_answered
from api.problems import not_found
from orchestrator.access.schema import Scope
from orchestrator.credentials import NoCredentials, ray_token
from orchestrator.settings import Settings

MLFLOW, RAY = "/mlflow", "/ray"
# Questions that MLflow's pages and client ask by POST.
_QUESTIONS = (
    "2.0/mlflow/experiments/search",
    "2.0/mlflow/experiments/search-datasets",
    "2.0/mlflow/runs/search",
    "2.0/mlflow/logged-models/search",
    "3.0/mlflow/traces/search",
)
_CHANGES = ["POST", "PUT", "PATCH", "DELETE"]


def behind(settings: Settings) -> tuple[APIRouter, list[Behind]]:
    """The routes, and the servers that they lead to."""
    router = APIRouter(include_in_schema=False)
    mlflow, ray = Behind("MLflow", settings.mlflow), Behind("Ray's dashboard", settings.ray_jobs)
    reading, administering = [needs(Scope.READ)], [needs(Scope.ADMIN)]

    @router.get(MLFLOW, dependencies=reading)
    @router.get(RAY, dependencies=administering)
    def root(request: Request) -> Response:
        """What is relative to the address begins behind its slash."""
        return RedirectResponse(f"{request.url.path}/")

    async def question(request: Request) -> Response:
        return await mlflow.forward(request, request.url.path.removeprefix(f"{MLFLOW}/"))

    for interface in ("api", "ajax-api"):
        for path in _QUESTIONS:
            router.add_api_route(f"{MLFLOW}/{interface}/{path}", question, methods=["POST"], dependencies=reading)
    router.add_api_route(f"{MLFLOW}/graphql", question, methods=["POST"], dependencies=reading)  # it has no mutation that changes anything

    @router.api_route(
        f"{MLFLOW}/ajax-api/3.0/mlflow/assistant{{path:path}}", methods=["GET", "HEAD", *_CHANGES], dependencies=administering
    )
    def assistant(path: str) -> Response:
        """It runs commands for whoever asks from its own machine, which all would seem to do who come through here."""
        raise not_found("page", "MLflow's assistant")

    async def of_mlflow(request: Request, path: str) -> Response:
        return await mlflow.forward(request, path)

    router.add_api_route(f"{MLFLOW}/{{path:path}}", of_mlflow, methods=["GET", "HEAD"], dependencies=reading)

    async def change_mlflow(request: Request, path: str, holder: HolderOf, audit: AuditOf) -> Response:
        answer = await mlflow.forward(request, path)
        if answer.status_code < 400:
            await run_in_threadpool(audit.note, holder, "mlflow.change", "mlflow", method=request.method, path=path[:200])
        return answer

    router.add_api_route(f"{MLFLOW}/{{path:path}}", change_mlflow, methods=_CHANGES, dependencies=administering)

    @router.api_route(f"{RAY}/{{path:path}}", methods=["GET", "HEAD"], dependencies=administering)
    async def of_ray(request: Request, path: str) -> Response:
        try:
            return await ray.forward(request, path, ray_token())
        except NoCredentials as error:
            raise not_answered(ray.name, str(error)) from None

    return router, [mlflow, ray]
