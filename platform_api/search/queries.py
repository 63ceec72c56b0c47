"""Finding products: candidates by the database's index, everything after that alike on both databases."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, literal_column, select, text
from sqlmodel import Session, col

from platform_api.catalogue import queries as catalogue
from platform_api.catalogue.queries import Filters, PublishedProduct
from platform_api.search.ranking import Candidate, Corpus, rank_key, ranked
from platform_api.search.tables import SearchDocument
from platform_api.search.tokens import index_word, query_tokens

_LENGTHS: tuple[Any, ...] = (
    col(SearchDocument.title_length),
    col(SearchDocument.category_length),
    col(SearchDocument.description_length),
)
FACETS = ("kind", "category", "language")


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A product that was found."""

    score: float
    product: PublishedProduct


@dataclass(frozen=True, kw_only=True)
class Found:
    """hits: up to the limit, the best first. facets: how many there would be for each value, other filters kept."""

    hits: list[Hit]
    total: int
    facets: dict[str, dict[str, int]]


def find(session: Session, query: str, filters: Filters, after: tuple[Any, ...] | None, limit: int) -> Found:
    """Products on sale for a query. after: (score, id) of the entry before the page."""
    tokens = query_tokens(query)
    order = ranked(tokens, candidates(session, tokens), _corpus(session)) if tokens else []
    on_sale = {entry.id: entry for entry in catalogue.published_products(session, [name for _, name in order])}
    hits = [Hit(score=score, product=on_sale[name]) for score, name in order if name in on_sale]
    tree = catalogue.categories(session)
    under = None if filters.category is None else catalogue.below(tree, filters.category)
    kept = [hit for hit in hits if _fits(hit.product, filters, under)]
    facets = {name: _facet(hits, name, replace(filters, **{name: None}), under) for name in FACETS}
    page = kept if after is None else [hit for hit in kept if _key(hit) > rank_key((after[0], after[1]))]
    return Found(hits=page[:limit], total=len(kept), facets=facets)


def candidates(session: Session, tokens: Sequence[str]) -> list[Candidate]:
    """Every indexed product that holds at least one of the tokens."""
    # The database picks the few counts that matter out of each document's many.
    counts = [col(SearchDocument.counts)[index_word(token)] for token in tokens]
    wanted = select(col(SearchDocument.product_id), *_LENGTHS, *counts)
    return [
        Candidate(
            product_id=product_id,
            counts={token: found for token, found in zip(tokens, counts_found, strict=True) if found is not None},
            lengths=(title, category, description),
        )
        for product_id, title, category, description, *counts_found in session.execute(
            wanted.where(_holds_one(session, tokens))
        )
    ]


def _holds_one(session: Session, tokens: Sequence[str]) -> ColumnElement[bool]:
    words = [index_word(token) for token in tokens]
    if session.get_bind().dialect.name == "sqlite":
        inside = text("SELECT rowid FROM search_index WHERE search_index MATCH :words")
        return col(SearchDocument.number).in_(inside.bindparams(words=" OR ".join(words)))
    vector = func.to_tsvector(literal_column("'simple'::regconfig"), col(SearchDocument.words))
    return vector.bool_op("@@")(
        func.to_tsquery(literal_column("'simple'::regconfig"), bindparam("words", " | ".join(words)))
    )


def _corpus(session: Session) -> Corpus:
    sums = [func.coalesce(func.sum(length), 0) for length in _LENGTHS]
    size, title, category, description = session.execute(select(func.count(col(SearchDocument.number)), *sums)).one()
    return Corpus(size=size, lengths=(int(title), int(category), int(description)))


def _key(hit: Hit) -> tuple[float, str]:
    return rank_key((hit.score, hit.product.id))


def _fits(product: PublishedProduct, filters: Filters, under: frozenset[str] | None) -> bool:
    price = product.price_minor
    return (
        filters.kind in (None, product.kind)
        and (filters.category is None or under is None or product.category in under)
        and filters.language in (None, product.language)
        and filters.currency in (None, product.currency)
        and (filters.min_price_minor is None or price >= filters.min_price_minor)
        and (filters.max_price_minor is None or price <= filters.max_price_minor)
    )


def _facet(hits: Sequence[Hit], name: str, others: Filters, under: frozenset[str] | None) -> dict[str, int]:
    counts = Counter(str(getattr(hit.product, name)) for hit in hits if _fits(hit.product, others, under))
    return dict(sorted(counts.items()))
