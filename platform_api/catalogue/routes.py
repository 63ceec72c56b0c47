"""Routes of the catalogue: what everybody sees, what creators and reviewers work on, what buyers read."""

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlmodel import Session

from platform_api.access import ANY_PERSON, OPERATORS, PUBLIC, Caller, KnownCaller, Rule, access
from platform_api.accounts.queries import display_names
from platform_api.catalogue import categories, queries, service, slots
from platform_api.catalogue.entitled import Entitlement
from platform_api.catalogue.schemas import (
    MAX_PRICE_MINOR,
    SLUG,
    CategoryChange,
    CategoryEntry,
    Identifier,
    Kind,
    Language,
    ManagedEntry,
    ManagedProduct,
    NewCategory,
    NewProduct,
    NewSlot,
    ProductChange,
    ProductEntry,
    ProductPage,
    ReadableVersion,
    ReviewNote,
    SlotEntry,
    SlugInPath,
    Sort,
    VersionNumber,
    VersionView,
)
from platform_api.catalogue.tables import Category, Product, ProductVersion
from platform_api.clock import Now
from platform_api.cursors import Page, Paging
from platform_api.database import ReadSession, WriteSession
from platform_api.etags import require_match, revision_etag, state_etag

catalogue = APIRouter(tags=["catalogue"])

CREATORS = Rule(roles=("creator",), people_only=True)
REVIEWERS = Rule(roles=("reviewer",), people_only=True)
WORKERS = Rule(roles=("creator", "reviewer", "tenant-operator", "platform-operator"), people_only=True)
ARCHIVERS = Rule(roles=("creator", "tenant-operator", "platform-operator"), people_only=True)
Amount = Annotated[int | None, Query(ge=0, le=MAX_PRICE_MINOR, description="in minor units; needs currency")]


async def _filters(
    kind: Kind | None = None,
    category: Annotated[str | None, Query(pattern=SLUG, max_length=64)] = None,
    language: Language | None = None,
    currency: Annotated[str | None, Query(pattern="^[A-Z]{3}$")] = None,
    min_price_minor: Amount = None,
    max_price_minor: Amount = None,
) -> queries.Filters:
    filters = queries.Filters(
        kind=kind,
        category=category,
        language=language,
        currency=currency,
        min_price_minor=min_price_minor,
        max_price_minor=max_price_minor,
    )
    filters.check()
    return filters


Narrowed = Annotated[queries.Filters, Depends(_filters)]


@catalogue.post("/categories", status_code=201, **access(OPERATORS))
def add_category(response: Response, wish: NewCategory, session: WriteSession) -> CategoryEntry:
    """Add to the tree of categories."""
    return _category(response, categories.add_category(session, wish))


@catalogue.get("/categories", **access(PUBLIC))
def list_categories(response: Response, paging: Paging, session: ReadSession) -> Page[CategoryEntry]:
    """Categories by slug; parent_slug makes the tree."""
    rows = queries.categories_after(session, paging.after_id, paging.limit + 1)
    return paging.page(
        response, rows, lambda row: (row.slug,), lambda row: CategoryEntry.model_validate(row, from_attributes=True)
    )


@catalogue.get("/categories/{slug}", **access(PUBLIC))
def read_category(response: Response, slug: SlugInPath, session: ReadSession) -> CategoryEntry:
    """One category."""
    return _category(response, categories.category(session, slug))


@catalogue.patch("/categories/{slug}", **access(OPERATORS))
def rename_category(
    request: Request, response: Response, slug: SlugInPath, change: CategoryChange, session: WriteSession
) -> CategoryEntry:
    """Rename a category. Needs If-Match."""
    found = categories.category(session, slug, lock=True)
    require_match(request, revision_etag(found.slug, found.revision))
    return _category(response, categories.rename_category(session, found, change))


@catalogue.post("/products", status_code=201, **access(CREATORS))
def create_product(
    response: Response, wish: NewProduct, caller: KnownCaller, session: WriteSession, now: Now
) -> ManagedProduct:
    """Begin a product; it is a draft that nobody else sees."""
    return _managed(session, response, service.create(session, caller, wish, now))


@catalogue.get("/products", **access(PUBLIC))
def list_products(
    response: Response, paging: Paging, session: ReadSession, filters: Narrowed, sort: Sort = "newest"
) -> Page[ProductEntry]:
    """Products on sale."""
    filters.check(sort)
    rows = queries.listed(session, filters, sort, paging.after, paging.limit + 1)
    return paging.page(response, rows, lambda row: queries.sort_key(row, sort), product_entry)


@catalogue.get("/me/products", **access(CREATORS))
def list_own_products(
    response: Response, paging: Paging, caller: KnownCaller, session: ReadSession
) -> Page[ManagedEntry]:
    """The own products in every state, by id."""
    rows = queries.managed_after(session, caller.id, paging.after_id, paging.limit + 1)
    return paging.page(response, rows, lambda row: (row.id,), lambda row: _managed_entry(session, row))


@catalogue.get("/review-queue", **access(REVIEWERS))
def list_in_review(response: Response, paging: Paging, caller: KnownCaller, session: ReadSession) -> Page[ManagedEntry]:
    """Products that wait for a reviewer, by id; a tenant's reviewers see the tenant's."""
    rows = queries.in_review_after(session, caller.tenant_id, paging.after_id, paging.limit + 1)
    return paging.page(response, rows, lambda row: (row.id,), lambda row: _managed_entry(session, row))


@catalogue.get("/products/{product_id}", **access(PUBLIC))
def read_product(product_id: Identifier, session: ReadSession) -> ProductPage:
    """A product on sale, in its current version."""
    found = queries.sellable(session, product_id)
    names = display_names(session, [found.user_id])
    return ProductPage(**product_entry(found).model_dump(), creator_name=names.get(found.user_id, ""))


@catalogue.get("/products/{product_id}/manage", **access(WORKERS))
def read_managed(
    response: Response, product_id: Identifier, caller: KnownCaller, session: ReadSession
) -> ManagedProduct:
    """A product in every state, for its creator, its reviewers and its operators. Its ETag is for If-Match."""
    return _managed(session, response, service.managed(session, caller, product_id))


@catalogue.patch("/products/{product_id}", **access(CREATORS))
def edit_product(
    request: Request,
    response: Response,
    product_id: Identifier,
    change: ProductChange,
    caller: KnownCaller,
    session: WriteSession,
    now: Now,
) -> ManagedProduct:
    """Change the draft; where the newest version is published, the change opens the next one. Needs If-Match."""
    found = _to_change(request, session, caller, product_id)
    return _managed(session, response, service.edit(session, caller, found, change, now))


@catalogue.post("/products/{product_id}/submit", **access(CREATORS))
def submit_product(
    request: Request, response: Response, product_id: Identifier, caller: KnownCaller, session: WriteSession, now: Now
) -> ManagedProduct:
    """Hand the draft to the reviewers. Needs If-Match."""
    found = _to_change(request, session, caller, product_id)
    return _managed(session, response, service.submit(session, caller, found, now))


@catalogue.post("/products/{product_id}/publish", **access(REVIEWERS))
def publish_product(
    request: Request, response: Response, product_id: Identifier, caller: KnownCaller, session: WriteSession, now: Now
) -> ManagedProduct:
    """Put the version in review on sale. Needs If-Match: what is published is what was read."""
    found = _to_change(request, session, caller, product_id)
    return _managed(session, response, service.publish(session, caller, found, now))


@catalogue.post("/products/{product_id}/return", **access(REVIEWERS))
def return_product(
    request: Request,
    response: Response,
    product_id: Identifier,
    wish: ReviewNote,
    caller: KnownCaller,
    session: WriteSession,
) -> ManagedProduct:
    """Give the version in review back to its creator. Needs If-Match."""
    found = _to_change(request, session, caller, product_id)
    return _managed(session, response, service.send_back(session, caller, found, wish.note))


@catalogue.post("/products/{product_id}/archive", **access(ARCHIVERS))
def archive_product(
    request: Request, response: Response, product_id: Identifier, caller: KnownCaller, session: WriteSession, now: Now
) -> ManagedProduct:
    """Take a product off sale for good; buyers keep reading it. Needs If-Match."""
    found = _to_change(request, session, caller, product_id)
    return _managed(session, response, service.archive(session, caller, found, now))


@catalogue.get("/products/{product_id}/versions/{number}", **access(ANY_PERSON))
def read_version(
    product_id: Identifier, number: VersionNumber, caller: KnownCaller, session: ReadSession, entitled: Entitlement
) -> ReadableVersion:
    """A version with its content, for those who bought it."""
    product, version = service.readable_version(session, caller, product_id, number, entitled)
    return ReadableVersion.model_validate({**version.model_dump(), "kind": product.kind})


@catalogue.post("/products/{product_id}/slots", status_code=201, **access(CREATORS))
def add_slot(
    request: Request,
    response: Response,
    product_id: Identifier,
    wish: NewSlot,
    caller: KnownCaller,
    session: WriteSession,
    now: Now,
) -> SlotEntry:
    """Offer a time. Needs the product's If-Match; the answer's ETag is the product's."""
    found = _to_change(request, session, caller, product_id)
    service.require_creator(caller, found)
    slot = slots.add_slot(session, found.product, wish, now)
    state_etag(response, _etag(found.product))
    return SlotEntry.model_validate(slot, from_attributes=True)


@catalogue.get("/products/{product_id}/slots", **access(PUBLIC))
def list_slots(
    response: Response, product_id: Identifier, paging: Paging, session: ReadSession, now: Now
) -> Page[SlotEntry]:
    """Times of a product on sale that can still be booked, by their beginning."""
    queries.sellable(session, product_id)
    rows = queries.free_slots(session, product_id, now, paging.after, paging.limit + 1)
    return paging.page(
        response,
        rows,
        lambda row: (row.starts_at.isoformat(), row.id),
        lambda row: SlotEntry.model_validate(row, from_attributes=True),
    )


@catalogue.delete("/products/{product_id}/slots/{slot_id}", status_code=204, **access(CREATORS))
def remove_slot(
    request: Request,
    response: Response,
    product_id: Identifier,
    slot_id: Identifier,
    caller: KnownCaller,
    session: WriteSession,
) -> None:
    """Take back a time that nobody booked. Needs the product's If-Match; the answer's ETag is the product's."""
    found = _to_change(request, session, caller, product_id)
    service.require_creator(caller, found)
    slots.remove_slot(session, found.product, slot_id)
    state_etag(response, _etag(found.product))


def product_entry(found: queries.PublishedProduct) -> ProductEntry:
    """A product as public lists show it."""
    return ProductEntry.model_validate(found, from_attributes=True)


def _to_change(request: Request, session: Session, caller: Caller, product_id: str) -> service.Managed:
    found = service.managed(session, caller, product_id, lock=True)
    require_match(request, _etag(found.product))
    return found


def _etag(product: Product) -> str:
    return revision_etag(product.id, product.revision)


def _managed(session: Session, response: Response, found: service.Managed) -> ManagedProduct:
    product, draft = found.product, found.draft
    state_etag(response, _etag(product))
    current = None
    if product.current_version is not None:
        current = queries.version(session, product.id, product.current_version)
    return ManagedProduct(
        id=product.id,
        kind=cast("Kind", product.kind),
        state=found.state,
        tenant_id=product.tenant_id,
        created_at=product.created_at,
        archived_at=product.archived_at,
        current=None if current is None else _version(current),
        draft=None if draft is None else _version(draft),
    )


def _version(version: ProductVersion) -> VersionView:
    return VersionView.model_validate(version, from_attributes=True)


def _managed_entry(session: Session, product: Product) -> ManagedEntry:
    found = service.Managed(product=product, newest=queries.newest_version(session, product.id))
    return ManagedEntry(
        id=product.id,
        kind=cast("Kind", product.kind),
        state=found.state,
        title=found.newest.title,
        created_at=product.created_at,
    )


def _category(response: Response, category: Category) -> CategoryEntry:
    state_etag(response, revision_etag(category.slug, category.revision))
    return CategoryEntry.model_validate(category, from_attributes=True)
