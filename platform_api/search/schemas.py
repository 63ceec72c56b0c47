"""What goes over the wire about searches."""

from pydantic import BaseModel, Field

from platform_api.catalogue.schemas import ProductEntry
from platform_api.cursors import Page


class Facets(BaseModel):
    """How many products there would be for each value, with the other filters kept."""

    kind: dict[str, int]
    category: dict[str, int]
    language: dict[str, int]


class SearchAnswer(Page[ProductEntry]):
    """One page of what was found, the best first. total: on all pages."""

    total: int = Field(examples=[3])
    facets: Facets
