"""Reconciling and sweeping from the command line, and the sandbox as a process."""

from datetime import UTC, datetime

import uvicorn

from platform_api.database import Database
from platform_api.housekeeping.sweeps import Swept, retention_of, sweep
from platform_api.joints import CatalogueShelf
from platform_api.operations.serving import bound, run_until_asked
from platform_api.orders.checkout import Till
from platform_api.orders.till import terms_of
from platform_api.payments.http_provider import HttpProvider
from platform_api.payments.provider import ProviderUnavailable
from platform_api.payments.reconcile import Report, reconcile
from platform_api.sandbox.provider import Sandbox, utc_now
from platform_api.sandbox.service import sandbox_app
from platform_api.settings import PREFIX, Settings
from shared.errors import BadSetting, DeploymentError

_WEBHOOK = "/api/v1/webhooks/payments"


def reconciled(settings: Settings, database: Database, now: datetime, since: datetime | None = None) -> Report:
    """Reconcile with the provider of the settings. Raises DeploymentError where it does not answer."""
    provider = HttpProvider.of(settings)
    till = Till(database=database, provider=provider, shelf=CatalogueShelf(), terms=terms_of(settings))
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    try:
        return reconcile(till, now, since)
    except ProviderUnavailable:
        raise DeploymentError(
            f"{PREFIX}PROVIDER_URL: the payment provider at {settings.provider_url} does not answer; what was "
            "corrected stays, run it again"
        ) from None
    finally:
        provider.close()


def swept(settings: Settings, database: Database, now: datetime) -> Swept:
    """Sweep what is over, at once and whoever's turn it is."""
    provider = HttpProvider.of(settings)
    till = Till(database=database, provider=provider, shelf=CatalogueShelf(), terms=terms_of(settings))
    try:
        return sweep(till, retention_of(settings), now)
    finally:
        provider.close()


def serve_sandbox(
    settings: Settings, *, host: str, port: int, books: str, webhook_url: str = "", public_url: str = ""
) -> None:
    """Serve the sandbox until SIGTERM. Raises BadSetting, PortInUse."""
    secrets = settings.webhook_secret.get_secret_value().split()
    key = settings.provider_key.get_secret_value()
    for name, value in (("WEBHOOK_SECRET", secrets), ("PROVIDER_KEY", key)):
        if not value:
            raise BadSetting(f"{PREFIX}{name} is not set; the sandbox and the marketplace need the same one")
    with bound(host, port) as listener:
        sandbox = Sandbox(
            webhook_secret=secrets[0],
            api_key=key,
            clock=utc_now,
            path=books,
            public_url=public_url or settings.provider_url,
        )
        app = sandbox_app(sandbox, webhook_url or settings.public_url + _WEBHOOK)
        config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none", lifespan="on")
        run_until_asked(uvicorn.Server(config), listener)
