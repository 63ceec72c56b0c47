"""The tree of categories: adding to it and renaming."""

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from platform_api.catalogue import queries
from platform_api.catalogue.schemas import CategoryChange, NewCategory
from platform_api.catalogue.tables import Category
from platform_api.database import ALIVE
from platform_api.problems import Problem
from platform_api.search import index

MAX_CATEGORIES = 1000


def add_category(session: Session, wish: NewCategory) -> Category:
    """Raises Problem: 409 where the slug is taken, 422 where the parent is not there."""
    tree = queries.categories(session)
    if len(tree) >= MAX_CATEGORIES:
        raise Problem("conflict", f"there are at most {MAX_CATEGORIES} categories")
    if wish.parent_slug is not None and all(entry.slug != wish.parent_slug for entry in tree):
        raise Problem("invalid", "there is no category of the slug parent_slug")
    try:
        with session.begin_nested():
            session.execute(insert(Category).values(revision=1, **wish.model_dump()))
    except IntegrityError:
        raise Problem("conflict", "a category of this slug exists") from None
    return session.get_one(Category, wish.slug)


def category(session: Session, slug: str, *, lock: bool = False) -> Category:
    """Raises Problem (404)."""
    found = session.get(Category, slug, with_for_update=ALIVE if lock else None)
    if found is None:
        raise Problem("not-found", "no such category")
    return found


def rename_category(session: Session, entry: Category, change: CategoryChange) -> Category:
    """New names; what is filed below is found by them from now on."""
    entry.name_zh = change.name_zh or entry.name_zh
    entry.name_en = change.name_en or entry.name_en
    entry.revision += 1
    session.flush()
    # What comes or goes meanwhile is indexed by whoever is first, and seen by the other.
    queries.note_shelf_change(session)
    tree = queries.categories(session)
    filed = queries.published_in(session, queries.below(tree, entry.slug))
    for product in filed:
        index.put(session, product, queries.path_of(tree, product.category))
    return entry
