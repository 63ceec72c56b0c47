"""Search as a feature. It keeps nothing of a person: neither queries nor what was chosen."""

from platform_api.features import Feature
from platform_api.search.routes import search

SEARCH = Feature(name="search", routers=(search,))
