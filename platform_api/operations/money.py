"""Reconciling and sweeping from the command line."""

from datetime import UTC, datetime

from platform_api.database import Database
from platform_api.housekeeping.sweeps import Swept, retention_of, sweep
from platform_api.joints import CatalogueShelf
from platform_api.orders.checkout import Till
from platform_api.orders.till import terms_of
from platform_api.payments.http_provider import HttpProvider
from platform_api.payments.provider import ProviderUnavailable
from platform_api.payments.reconcile import Report, reconcile
from platform_api.settings import PREFIX, Settings
from shared.errors import DeploymentError


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
