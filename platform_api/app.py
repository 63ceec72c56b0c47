"""The service as one ASGI application: features, conventions around them, health and metrics."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from starlette.routing import BaseRoute

from platform_api.access import PUBLIC, access
from platform_api.accounts.feature import ACCOUNTS, hold_caller, identify
from platform_api.catalogue.feature import CATALOGUE
from platform_api.clock import Clock, system_clock
from platform_api.consents.feature import CONSENTS
from platform_api.database import Database, Turns
from platform_api.erasures import ErasureJournal
from platform_api.features import Feature
from platform_api.housekeeping.background import sweeping
from platform_api.housekeeping.sweeps import retention_of
from platform_api.invitations.feature import INVITATIONS
from platform_api.joints import CatalogueOnSale, CatalogueShelf, PaidHistories
from platform_api.middleware import Limited, Metrics, Observed, Tagged
from platform_api.models.feature import MODELS
from platform_api.models.files import ArtifactStore
from platform_api.models.live import LiveModels, Loaded
from platform_api.models.queries import live
from platform_api.models.tables import ModelVersion
from platform_api.models.uploads import OVERHEAD_BYTES
from platform_api.openapi import install_openapi
from platform_api.orders.checkout import Till
from platform_api.orders.entitlements import is_entitled
from platform_api.orders.feature import ORDERS
from platform_api.orders.shelf import Shelf
from platform_api.orders.till import terms_of
from platform_api.payments.feature import PAYMENTS
from platform_api.payments.http_provider import HttpProvider
from platform_api.payments.provider import PaymentProvider
from platform_api.privacy.feature import PRIVACY
from platform_api.problems import explanation, install_problems, problem_response
from platform_api.rates import Rates
from platform_api.recommendations.feature import RECOMMENDATIONS
from platform_api.reviews.feature import REVIEWS
from platform_api.schema import standing
from platform_api.search.feature import SEARCH
from platform_api.settings import Settings
from platform_api.snapshots.feature import SNAPSHOTS
from platform_api.snapshots.service import PublishedSnapshots
from shared.errors import BadSetting

FEATURES: tuple[Feature, ...] = (
    ACCOUNTS, CATALOGUE, SEARCH, SNAPSHOTS, REVIEWS, ORDERS, PAYMENTS, MODELS, PRIVACY, CONSENTS, RECOMMENDATIONS,
    INVITATIONS,
)  # fmt: skip
_CANDIDATES = re.compile(r"/api/v1/models/[^/]+/candidates")


def create_app(
    settings: Settings,
    *,
    clock: Clock = system_clock,
    provider: PaymentProvider | None = None,
    shelf: Shelf | None = None,
) -> FastAPI:
    """The application on one database. clock, provider, shelf: for tests that need others."""
    metrics = Metrics()
    own_provider = HttpProvider.of(settings) if provider is None else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = app.state
        till = Till(database=state.database, provider=state.provider, shelf=state.shelf, terms=terms_of(settings))
        async with sweeping(till, retention_of(settings), clock, settings.sweep_seconds):
            yield
        app.state.database.close()
        if own_provider is not None:
            own_provider.close()

    app = FastAPI(
        title="Zhiyin",
        version="1",
        description="A knowledge marketplace whose recommendations are learned where the histories are.",
        lifespan=lifespan,
        redirect_slashes=False,
        # The framework's own pages load scripts from elsewhere, which the policy of content forbids.
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.clock = clock
    app.state.database = Database(settings.database_url)
    app.state.turns = Turns()
    app.state.rates = Rates(settings)
    app.state.metrics = metrics
    app.state.identify = identify
    app.state.hold_caller = hold_caller
    app.state.is_entitled = is_entitled
    app.state.provider = provider or own_provider
    app.state.shelf = shelf or CatalogueShelf()
    app.state.features = FEATURES
    app.state.erasures = ErasureJournal(settings.erasure_journal)
    app.state.snapshots = PublishedSnapshots(settings)
    app.state.histories = PaidHistories()
    app.state.on_sale = CatalogueOnSale(clock)
    app.state.artifacts = ArtifactStore(settings.data_folder)
    app.state.models = LiveModels(app.state.artifacts, metrics.registry)
    install_problems(app)
    app.router.routes.extend(_routes())
    install_openapi(app)
    # The last one added is the outermost.
    app.add_middleware(Tagged)
    larger = ((_CANDIDATES, settings.max_model_bytes + OVERHEAD_BYTES),)
    app.add_middleware(Limited, max_body_bytes=settings.max_body_bytes, larger=larger)
    app.add_middleware(Observed, metrics=metrics)
    return app


@cache
def _routes() -> tuple[BaseRoute, ...]:
    # Built once a process, whatever the number of applications: working out what each route takes is slow.
    api, everything = APIRouter(prefix="/api/v1"), APIRouter()
    for feature in FEATURES:
        for router in feature.routers:
            api.include_router(router)
    everything.include_router(api)
    for feature in FEATURES:
        for page in feature.pages:
            everything.include_router(page)
    everything.include_router(_health())
    return tuple(everything.routes)


def _model_in_words(loaded: Loaded | None, stated: ModelVersion | None) -> str:
    if loaded is not None:
        return f"{loaded.name} {loaded.version}" + (", for a later one that cannot be read" if loaded.degraded else "")
    why = "none" if stated is None else f"{stated.name} {stated.version} cannot be read"
    return f"{why}; new items are recommended"


def _health() -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz", **access(PUBLIC))
    def alive() -> dict[str, str]:
        """The process answers. Asks nothing else."""
        return {"status": "alive"}

    @router.get("/readyz", **access(PUBLIC))
    def ready(request: Request) -> Response:
        """The database answers and is migrated, and a model is loaded if the operator asks for one; 503 otherwise.

        Without a model lists are of new items, and the body says so.
        """
        state = request.app.state
        try:
            if standing(state.database).pending:
                return problem_response(request, "unavailable", "migrations are pending")
            with state.database.reading() as session:
                loaded = state.models.current(session, state.snapshots, state.settings.recommender)
                stated = live(session, state.settings.recommender)
        except BadSetting:
            return problem_response(request, "unavailable", "the database is of a newer version")
        except SQLAlchemyError:
            return problem_response(request, "unavailable", "the database does not answer")
        if loaded is None and state.settings.ready_needs_model:
            return problem_response(
                request, "unavailable", "no model is live" if stated is None else "the live model cannot be read"
            )
        return JSONResponse({"status": "ready", "model": _model_in_words(loaded, stated)})

    @router.get("/problems/{slug}", include_in_schema=False, **access(PUBLIC))
    def explain(slug: str) -> Response:
        return explanation(slug)

    @router.get("/metrics", include_in_schema=False, **access(PUBLIC))
    def metrics(request: Request) -> Response:
        return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
