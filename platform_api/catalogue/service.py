"""What may happen to a product: draft, review, published, archived. A change needs the product's row, locked.

A published version never changes again: an edit opens the next version as a draft, and publishing that one makes it
current, while buyers keep the version that they bought.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, delete

from platform_api.access import Caller
from platform_api.catalogue import queries
from platform_api.catalogue.entitled import IsEntitled
from platform_api.catalogue.schemas import NewProduct, ProductChange, State
from platform_api.catalogue.tables import Category, ConsultingSlot, Product, ProductVersion
from platform_api.columns import new_id
from platform_api.database import ALIVE
from platform_api.orders import sellers
from platform_api.problems import Problem
from platform_api.search import index

_COPIED = ("title", "description", "content", "language", "category", "price_minor", "currency")


@dataclass(frozen=True, kw_only=True)
class Managed:
    """A product and its newest version."""

    product: Product
    newest: ProductVersion

    @property
    def draft(self) -> ProductVersion | None:
        """The version that is being worked on, if there is one."""
        return None if self.newest.state == "published" else self.newest

    @property
    def state(self) -> State:
        if self.product.archived_at is not None:
            return "archived"
        if self.product.current_version is not None:
            return "published"
        return "review" if self.newest.state == "review" else "draft"


def create(session: Session, caller: Caller, wish: NewProduct, now: datetime) -> Managed:
    """A new product of the caller in its first draft. Raises Problem (422) for an unknown category."""
    _require_category(session, wish.category)
    product = Product(
        id=new_id("prd"), kind=wish.kind, user_id=caller.id, tenant_id=caller.tenant_id or None, created_at=now
    )
    session.add(product)
    if product.tenant_id is None:
        sellers.opened(session, caller.id, now)
    session.flush()
    first = ProductVersion(product_id=product.id, number=1, created_at=now, **wish.model_dump(include=set(_COPIED)))
    session.add(first)
    session.flush()
    return Managed(product=product, newest=first)


def managed(session: Session, caller: Caller, product_id: str, *, lock: bool = False) -> Managed:
    """A product for those who work on it. Raises Problem (404) for everybody else, other tenants' people included."""
    product = session.get(Product, product_id, with_for_update=ALIVE if lock else None)
    if product is not None:
        found = Managed(product=product, newest=queries.newest_version(session, product_id))
        if _works_on(caller, found):
            return found
    raise Problem("not-found", "no such product")


def edit(session: Session, caller: Caller, found: Managed, change: ProductChange, now: datetime) -> Managed:
    """Change the draft, or open the next version as one. Raises Problem (403, 409, 422)."""
    _require_creator(caller, found)
    _require_alive(found)
    values = change.model_dump(exclude_none=True)
    if "category" in values:
        _require_category(session, values["category"])
    draft = found.newest
    if draft.state == "review":
        raise Problem("conflict", "it is in review; a reviewer publishes or returns it first")
    if draft.state == "published":
        copied = {name: getattr(draft, name) for name in _COPIED}
        draft = ProductVersion(product_id=draft.product_id, number=draft.number + 1, created_at=now, **copied)
        session.add(draft)
    for name, value in values.items():
        setattr(draft, name, value)
    return _changed(session, found.product, draft)


def submit(session: Session, caller: Caller, found: Managed, now: datetime) -> Managed:
    """Hand the draft to the reviewers. Raises Problem (403, 409)."""
    _require_creator(caller, found)
    _require_alive(found)
    if found.newest.state != "draft":
        raise Problem("conflict", "there is no draft to submit")
    found.newest.state, found.newest.submitted_at, found.newest.review_note = "review", now, ""
    return _changed(session, found.product, found.newest)


def publish(session: Session, caller: Caller, found: Managed, now: datetime) -> Managed:
    """Put the reviewed version on sale and into the search. Raises Problem (403, 409)."""
    _require_review(caller, found)
    product, version = found.product, found.newest
    version.state, version.published_at = "published", now
    queries.note_shelf_change(session)
    product.current_version = version.number
    product.first_published_at = product.first_published_at or now
    changed = _changed(session, product, version)
    path = queries.path_of(queries.categories(session), version.category)
    index.put(session, queries.sellable(session, product.id), path)
    return changed


def send_back(session: Session, caller: Caller, found: Managed, note: str) -> Managed:
    """Return the version to its creator with a note. Raises Problem (403, 409)."""
    _require_review(caller, found)
    found.newest.state, found.newest.review_note = "draft", note
    return _changed(session, found.product, found.newest)


def archive(session: Session, caller: Caller, found: Managed, now: datetime) -> Managed:
    """Take it off sale for good; those who bought it keep reading. Raises Problem (403, 409)."""
    if not (_made(caller, found) or caller.has("platform-operator") or _operates(caller, found)):
        raise Problem("forbidden", "only its creator or an operator archives a product")
    _require_alive(found)
    return _archived(session, found, now)


def readable_version(
    session: Session, caller: Caller, product_id: str, number: int, is_entitled: IsEntitled
) -> tuple[Product, ProductVersion]:
    """A published version for its buyers and its creator. Raises Problem (404) for everybody else."""
    product, version = session.get(Product, product_id), queries.version(session, product_id, number)
    if product is None or version is None or version.state != "published":
        raise Problem("not-found", "no such version")
    if product.user_id != caller.id and not is_entitled(session, caller.id, product_id, number):
        raise Problem("not-found", "no such version")
    return product, version


def require_creator(caller: Caller, found: Managed) -> None:
    """For what only the creator does to a living product. Raises Problem (403, 409)."""
    _require_creator(caller, found)
    _require_alive(found)


def export_products(session: Session, user_id: str) -> dict[str, Any]:
    """What a creator made."""
    mine = queries.managed_after(session, user_id, None, 1_000_000)
    return {
        "products": [
            {
                **product.model_dump(mode="json"),
                "versions": [row.model_dump(mode="json") for row in queries.versions(session, product.id)],
            }
            for product in mine
        ]
    }


def erase_products(session: Session, user_id: str, now: datetime) -> None:
    """Nothing of a creator stays on sale. What was never published goes; the rest stays for those who bought it."""
    for product in queries.held_products(session, user_id):
        found = Managed(product=product, newest=queries.newest_version(session, product.id))
        if product.current_version is not None and product.archived_at is None:
            _archived(session, found, now)
        unpublished = col(ProductVersion.state) != "published"
        session.exec(delete(ProductVersion).where(col(ProductVersion.product_id) == product.id, unpublished))
        if product.current_version is None:
            session.exec(delete(ConsultingSlot).where(col(ConsultingSlot.product_id) == product.id))
            session.delete(product)
    session.flush()


def _archived(session: Session, found: Managed, now: datetime) -> Managed:
    found.product.archived_at = now
    queries.note_shelf_change(session)
    index.remove(session, found.product.id)
    return _changed(session, found.product, found.newest)


def _changed(session: Session, product: Product, version: ProductVersion) -> Managed:
    product.revision += 1
    session.flush()
    return Managed(product=product, newest=version)


def _made(caller: Caller, found: Managed) -> bool:
    return caller.kind == "person" and found.product.user_id == caller.id


def _operates(caller: Caller, found: Managed) -> bool:
    return caller.has("tenant-operator") and caller.tenant_id != "" and caller.tenant_id == found.product.tenant_id


def _reviews(caller: Caller, found: Managed) -> bool:
    # A reviewer of a tenant reviews for it alone, one of none for all.
    return caller.has("reviewer") and caller.tenant_id in ("", found.product.tenant_id)


def _works_on(caller: Caller, found: Managed) -> bool:
    if _made(caller, found) or _operates(caller, found) or caller.has("platform-operator"):
        return True
    return _reviews(caller, found) and found.newest.state == "review" and found.product.archived_at is None


def _require_creator(caller: Caller, found: Managed) -> None:
    if not _made(caller, found):
        raise Problem("forbidden", "only its creator does this to a product")


def _require_alive(found: Managed) -> None:
    if found.product.archived_at is not None:
        raise Problem("conflict", "it is archived")


def _require_review(caller: Caller, found: Managed) -> None:
    _require_alive(found)
    if not _reviews(caller, found):
        raise Problem("forbidden", "this needs a reviewer for the product's tenant")
    if _made(caller, found):
        raise Problem("forbidden", "nobody reviews what they made")
    if found.newest.state != "review":
        raise Problem("conflict", "it is not in review")


def _require_category(session: Session, slug: str) -> None:
    if session.get(Category, slug) is None:
        raise Problem("invalid", "there is no such category")
