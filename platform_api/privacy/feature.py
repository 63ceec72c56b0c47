"""The privacy ledger as a feature."""

from platform_api.features import Feature
from platform_api.privacy.routes import pages, privacy

PRIVACY = Feature(name="privacy", routers=(privacy,), pages=(pages,))
