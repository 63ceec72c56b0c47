"""What orders ask of the catalogue: whether something is on sale, and one consulting slot for one order."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import Depends, Request
from sqlmodel import Session


@dataclass(frozen=True, kw_only=True)
class Sellable:
    """A product as it is on sale now. price_minor: in the currency's smallest unit.

    seller_tenant_id: "" for none; then the seller is the person who made it, creator_user_id.
    """

    product_id: str
    version: int
    kind: str
    title: str
    price_minor: int
    currency: str
    seller_tenant_id: str
    creator_user_id: str = ""

    @property
    def by_slot(self) -> bool:
        """Whether what is bought is one appointment."""
        return self.kind == "consulting"


class Shelf(Protocol):
    """The catalogue as orders see it. Everything happens in the caller's transaction."""

    def sellable(self, session: Session, product_id: str) -> Sellable:
        """Raises Problem (404) for what is not on sale."""
        ...

    def hold_slot(self, session: Session, slot_id: str, order_id: str, now: datetime) -> str:
        """Give the slot to this order; the id of its product. Raises Problem: 404 unknown, 409 held by another."""
        ...

    def release_slot(self, session: Session, slot_id: str, order_id: str) -> None:
        """Free the slot if this order holds it; otherwise nothing happens."""
        ...


async def _shelf(request: Request) -> Shelf:
    shelf: Shelf = request.app.state.shelf
    return shelf


TheShelf = Annotated[Shelf, Depends(_shelf)]
