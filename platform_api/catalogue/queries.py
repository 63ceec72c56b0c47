"""Reading the catalogue. `published_products`, `product` and `sellable` are what other features build on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, or_, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from platform_api.catalogue.tables import Category, ConsultingSlot, Product, ProductVersion, ShelfChange, SlotHold
from platform_api.database import ALIVE
from platform_api.problems import Problem

_STRETCH = 5000


@dataclass(frozen=True, kw_only=True)
class PublishedProduct:
    """A product on sale in its current version. published_at: when it was first on sale; user_id: its creator."""

    id: str
    kind: str
    version: int
    title: str
    description: str
    language: str
    category: str
    price_minor: int
    currency: str
    user_id: str
    tenant_id: str | None
    published_at: datetime


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a list is narrowed to; None: anything. category: with those below it."""

    kind: str | None = None
    category: str | None = None
    language: str | None = None
    currency: str | None = None
    min_price_minor: int | None = None
    max_price_minor: int | None = None

    def check(self, sort: str = "newest") -> None:
        """Raise Problem (422) where amounts of several currencies would be compared."""
        prices = self.min_price_minor is not None or self.max_price_minor is not None or sort.endswith("price")
        if prices and self.currency is None:
            raise Problem("invalid", "prices are compared in one currency; state currency")


def on_sale() -> ColumnElement[bool]:
    """What makes a product visible: it has a current version and was not archived."""
    return and_(col(Product.current_version).is_not(None), col(Product.archived_at).is_(None))


def buyable(now: datetime) -> ColumnElement[bool]:
    """What somebody may buy now: on sale, and consulting only while a slot ahead is free."""
    return and_(on_sale(), or_(col(Product.kind) != "consulting", col(Product.id).in_(_with_free_slots(now))))


def _with_free_slots(now: datetime) -> Select[Any]:
    wanted: Select[Any] = select(ConsultingSlot.product_id).where(*_free(now))
    return wanted


def _free(now: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return col(ConsultingSlot.starts_at) > now, col(ConsultingSlot.id).not_in(select(SlotHold.slot_id))


def next_free_slot(session: Session, now: datetime) -> datetime | None:
    """When the next free slot of any product begins: until then no passing of time changes what is `buyable`."""
    return session.exec(
        select(ConsultingSlot.starts_at).where(*_free(now)).order_by(col(ConsultingSlot.starts_at)).limit(1)
    ).first()


def shelf_number(session: Session) -> int:
    """Rises whenever a product comes on sale or goes off it, a slot comes, goes, is held or released, or the index of
    the search changes.

    Read it before what is to be kept for as long.
    """
    found = session.execute(select(ShelfChange.number)).scalar_one_or_none()
    return 0 if found is None else int(found)


def note_shelf_change(session: Session) -> None:
    """To be called in the transaction that changes what somebody may buy, or find.

    Others that change the shelves wait for it from here on: it is called before rows of slots or of the index of the
    search are read to be changed.
    """
    raised = update(ShelfChange).values(number=col(ShelfChange.number) + 1)
    if session.execute(raised).rowcount:  # type: ignore[attr-defined]
        return
    try:
        with session.begin_nested():
            session.add(ShelfChange(id=1, number=1))
    except IntegrityError:
        session.execute(raised)


def ids_buyable(session: Session, now: datetime) -> list[str]:
    """All products that are `buyable`, by id."""
    return list(session.execute(select(Product.id).where(buyable(now)).order_by(col(Product.id))).scalars())


def published_products(session: Session, ids: Iterable[str] | None) -> list[PublishedProduct]:
    """Those of the products that are on sale, by id; None: all that are."""
    wanted = _published().order_by(col(Product.id))
    if ids is None:
        return [_as_published(row) for row in session.execute(wanted)]
    return _in_stretches(session, wanted, ids)


def ever_published(session: Session, ids: Iterable[str]) -> list[PublishedProduct]:
    """Those of the products that are or were on sale, in their last published version, by id."""
    return _in_stretches(session, _published(archived_too=True).order_by(col(Product.id)), ids)


def _in_stretches(session: Session, wanted: Select[Any], ids: Iterable[str]) -> list[PublishedProduct]:
    # In stretches: a statement has room for a limited number of values.
    sought = sorted(set(ids))
    stretches = (sought[start : start + _STRETCH] for start in range(0, len(sought), _STRETCH))
    return [
        _as_published(row)
        for stretch in stretches
        for row in session.execute(wanted.where(col(Product.id).in_(stretch)))
    ]


def published_in(session: Session, slugs: Iterable[str]) -> list[PublishedProduct]:
    """Products on sale that are filed under one of the categories, by id."""
    wanted = _published().where(col(ProductVersion.category).in_(list(slugs))).order_by(col(Product.id))
    return [_as_published(row) for row in session.execute(wanted)]


def product(session: Session, product_id: str) -> PublishedProduct | None:
    """One product on sale, or None."""
    found = published_products(session, [product_id])
    return found[0] if found else None


def sellable(session: Session, product_id: str) -> PublishedProduct:
    """What is sold under this id now: price, currency, version, kind. Raises Problem (404)."""
    found = product(session, product_id)
    if found is None:
        raise Problem("not-found", "no such product is on sale")
    return found


def creator_of_published(session: Session, product_id: str) -> str | None:
    """The creator of what is or was on sale; None for anything else."""
    found = session.get(Product, product_id)
    return None if found is None or found.current_version is None else found.user_id


def tenant_of(session: Session, product_id: str) -> str | None:
    """The tenant of a product, in whatever state."""
    found = session.get(Product, product_id)
    return None if found is None else found.tenant_id


def seller_of(session: Session, product_id: str) -> tuple[str | None, str]:
    """The tenant of a product that exists, None for none, and the person who made it."""
    found = session.get_one(Product, product_id)
    return found.tenant_id, found.user_id


def listed(
    session: Session,
    filters: Filters,
    sort: str,
    after: tuple[Any, ...] | None,
    limit: int,
    buyable_at: datetime | None = None,
) -> list[PublishedProduct]:
    """A stretch of the public list. after: `sort_key` of the entry before it; buyable_at: only what is `buyable`."""
    key: Any = col(ProductVersion.price_minor)
    if sort == "newest":
        key = col(Product.first_published_at)
    falling = sort != "price"
    wanted = _published().where(*_narrowed(session, filters)).limit(limit)
    if buyable_at is not None:
        wanted = wanted.where(buyable(buyable_at))
    if after is not None:
        value = datetime.fromisoformat(after[0]) if sort == "newest" else after[0]
        beyond = key < value if falling else key > value
        wanted = wanted.where(or_(beyond, and_(key == value, col(Product.id) > after[1])))
    ordered = wanted.order_by(key.desc() if falling else key.asc(), col(Product.id))
    return [_as_published(row) for row in session.execute(ordered)]


def sort_key(entry: PublishedProduct, sort: str) -> tuple[Any, ...]:
    """Where an entry stands in a list of this order."""
    return (entry.published_at.isoformat() if sort == "newest" else entry.price_minor, entry.id)


def managed_after(session: Session, user_id: str, after: str | None, limit: int) -> list[Product]:
    """A creator's products in every state, by id."""
    wanted = select(Product).where(col(Product.user_id) == user_id).order_by(col(Product.id)).limit(limit)
    return list(session.exec(wanted if after is None else wanted.where(col(Product.id) > after)).all())


def held_products(session: Session, user_id: str) -> list[Product]:
    """All of a creator's products as they are now, locked in the order of their ids before any shelf is."""
    wanted = select(Product).where(col(Product.user_id) == user_id).order_by(col(Product.id))
    held = wanted.with_for_update(**ALIVE).execution_options(populate_existing=True)
    return list(session.exec(held).all())


def in_review_after(session: Session, tenant_id: str, after: str | None, limit: int) -> list[Product]:
    """Products that wait for a reviewer, by id; of one tenant, or of all where tenant_id is empty."""
    waiting = select(ProductVersion.product_id).where(col(ProductVersion.state) == "review")
    wanted = select(Product).where(col(Product.id).in_(waiting), col(Product.archived_at).is_(None))
    if tenant_id:
        wanted = wanted.where(col(Product.tenant_id) == tenant_id)
    if after is not None:
        wanted = wanted.where(col(Product.id) > after)
    return list(session.exec(wanted.order_by(col(Product.id)).limit(limit)).all())


def version(session: Session, product_id: str, number: int) -> ProductVersion | None:
    return session.get(ProductVersion, (product_id, number))


def newest_version(session: Session, product_id: str) -> ProductVersion:
    """The version of the highest number; every product has one."""
    wanted = select(ProductVersion).where(col(ProductVersion.product_id) == product_id)
    return session.exec(wanted.order_by(col(ProductVersion.number).desc()).limit(1)).one()


def versions(session: Session, product_id: str) -> Sequence[ProductVersion]:
    wanted = select(ProductVersion).where(col(ProductVersion.product_id) == product_id)
    return session.exec(wanted.order_by(col(ProductVersion.number))).all()


def categories(session: Session) -> list[Category]:
    """The whole tree, by slug."""
    return list(session.exec(select(Category).order_by(col(Category.slug))).all())


def categories_after(session: Session, after: str | None, limit: int) -> list[Category]:
    wanted = select(Category).order_by(col(Category.slug)).limit(limit)
    return list(session.exec(wanted if after is None else wanted.where(col(Category.slug) > after)).all())


def below(tree: Iterable[Category], slug: str) -> frozenset[str]:
    """A category and all those under it; only itself where the tree does not know it."""
    children: dict[str | None, list[str]] = {}
    for entry in tree:
        children.setdefault(entry.parent_slug, []).append(entry.slug)
    found, open_ones = {slug}, [slug]
    while open_ones:
        for child in children.get(open_ones.pop(), []):
            found.add(child)
            open_ones.append(child)
    return frozenset(found)


def path_of(tree: Iterable[Category], slug: str) -> list[Category]:
    """A category and those above it, the nearest first."""
    by_slug = {entry.slug: entry for entry in tree}
    path: list[Category] = []
    place: str | None = slug
    while place is not None and place in by_slug:
        path.append(by_slug[place])
        place = by_slug[place].parent_slug
    return path


def free_slots(
    session: Session, product_id: str, now: datetime, after: tuple[Any, ...] | None, limit: int
) -> list[ConsultingSlot]:
    """Slots that begin after now and that no order holds, by their beginning."""
    begins = col(ConsultingSlot.starts_at)
    wanted = select(ConsultingSlot).where(
        col(ConsultingSlot.product_id) == product_id,
        begins > now,
        col(ConsultingSlot.id).not_in(select(SlotHold.slot_id)),
    )
    if after is not None:
        at = datetime.fromisoformat(after[0])
        wanted = wanted.where(or_(begins > at, and_(begins == at, col(ConsultingSlot.id) > after[1])))
    return list(session.exec(wanted.order_by(begins, col(ConsultingSlot.id)).limit(limit)).all())


def _published(*, archived_too: bool = False) -> Select[Any]:
    joined = and_(
        col(ProductVersion.product_id) == col(Product.id), col(ProductVersion.number) == col(Product.current_version)
    )
    # The content, which may be long, is not fetched.
    chosen: tuple[Any, ...] = (
        Product.id,
        Product.kind,
        ProductVersion.number,
        ProductVersion.title,
        ProductVersion.description,
        ProductVersion.language,
        ProductVersion.category,
        ProductVersion.price_minor,
        ProductVersion.currency,
        Product.user_id,
        Product.tenant_id,
        Product.first_published_at,
    )
    wanted: Select[Any] = select(*chosen).join(ProductVersion, joined)
    return wanted if archived_too else wanted.where(on_sale())


def _as_published(row: Row[Any]) -> PublishedProduct:
    found = row._asdict()
    return PublishedProduct(
        **{name: value for name, value in found.items() if name not in ("number", "first_published_at")},
        version=found["number"],
        published_at=found["first_published_at"],
    )


def _narrowed(session: Session, filters: Filters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filters.kind is not None:
        conditions.append(col(Product.kind) == filters.kind)
    if filters.category is not None:
        conditions.append(col(ProductVersion.category).in_(below(categories(session), filters.category)))
    if filters.language is not None:
        conditions.append(col(ProductVersion.language) == filters.language)
    if filters.currency is not None:
        conditions.append(col(ProductVersion.currency) == filters.currency)
    if filters.min_price_minor is not None:
        conditions.append(col(ProductVersion.price_minor) >= filters.min_price_minor)
    if filters.max_price_minor is not None:
        conditions.append(col(ProductVersion.price_minor) <= filters.max_price_minor)
    return conditions
