"""Keeping the index: the catalogue calls this in the transaction that publishes, renames or archives."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, select

from platform_api.catalogue.queries import PublishedProduct
from platform_api.catalogue.tables import Category
from platform_api.search.ranking import FIELDS
from platform_api.search.tables import SearchDocument
from platform_api.search.tokens import document_tokens, index_word


def put(session: Session, product: PublishedProduct, path: Sequence[Category]) -> None:
    """Index a product on sale, in place of what was indexed of it. path: its category and those above."""
    names = " ".join(f"{entry.name_zh} {entry.name_en}" for entry in path)
    counts, lengths = counted((product.title, names, product.description))
    row = _row(session, product.id) or SearchDocument(
        product_id=product.id, words="", counts={}, title_length=0, category_length=0, description_length=0
    )
    row.counts = {index_word(token): by_field for token, by_field in counts.items()}
    row.words = " ".join(sorted(row.counts))
    row.title_length, row.category_length, row.description_length = lengths
    session.add(row)
    session.flush()


def remove(session: Session, product_id: str) -> None:
    """Take a product out, if it is in."""
    row = _row(session, product_id)
    if row is not None:
        session.delete(row)
        session.flush()


def row_of(product_id: str, title: str, names: str, description: str) -> dict[str, Any]:
    """A row of search_documents, for those who write many at once. names: of the category and those above it."""
    by_token, lengths = counted((title, names, description))
    counts = {index_word(token): by_field for token, by_field in by_token.items()}
    return {
        "product_id": product_id,
        "words": " ".join(sorted(counts)),
        "counts": counts,
        "title_length": lengths[0],
        "category_length": lengths[1],
        "description_length": lengths[2],
    }


def counted(fields: tuple[str, str, str]) -> tuple[dict[str, list[int]], tuple[int, int, int]]:
    """Counts of each token by field, and how many tokens each field has."""
    by_field = [Counter(document_tokens(text)) for text in fields]
    tokens = sorted(set().union(*by_field))
    counts = {token: [by_field[place][token] for place in range(len(FIELDS))] for token in tokens}
    title, category, description = (field.total() for field in by_field)
    return counts, (title, category, description)


def _row(session: Session, product_id: str) -> SearchDocument | None:
    return session.exec(select(SearchDocument).where(col(SearchDocument.product_id) == product_id)).one_or_none()
