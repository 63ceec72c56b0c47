"""The route of searches."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from platform_api.access import PUBLIC, access
from platform_api.catalogue.routes import Narrowed, product_entry
from platform_api.cursors import Paging
from platform_api.database import ReadSession
from platform_api.search import queries
from platform_api.search.schemas import Facets, SearchAnswer

search = APIRouter(tags=["search"])
Text = Annotated[str, Query(min_length=1, max_length=200, description="words in Chinese or English")]


@search.get("/search", **access(PUBLIC))
def find_products(response: Response, q: Text, paging: Paging, session: ReadSession, filters: Narrowed) -> SearchAnswer:
    """Products on sale that hold most of the words, the best first. What is asked is kept nowhere."""
    found = queries.find(session, q, filters, paging.after, paging.limit + 1)
    page = paging.page(
        response, found.hits, lambda hit: (hit.score, hit.product.id), lambda hit: product_entry(hit.product)
    )
    return SearchAnswer(**dict(page), total=found.total, facets=Facets(**found.facets))
