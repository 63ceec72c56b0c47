"""What is on sale. Lists ask; the catalogue answers. `app.state.on_sale` holds the answer in use."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
from fastapi import Depends, Request
from numpy.typing import NDArray
from sqlmodel import Session

from shared.catalogue import CatalogueSnapshot


@dataclass(frozen=True, kw_only=True)
class PublicItem:
    """A product as its shop page shows it."""

    id: str
    title: str
    category: str


class OnSale(Protocol):
    """Products that somebody may buy now: published, not archived, and consulting only with a free slot ahead."""

    def available(self, session: Session, catalogue: CatalogueSnapshot) -> NDArray[np.bool_]:
        """Which of a catalogue's items are on sale now, bool (num_items,); not to be written to."""
        ...

    def describe(self, session: Session, ids: Collection[str]) -> Mapping[str, PublicItem]:
        """Those of the products that were ever published, as they are shown now."""
        ...

    def newest(self, session: Session, *, category: str | None, limit: int) -> list[PublicItem]:
        """Products on sale, the newest first; of one category where it is given."""
        ...


async def _on_sale(request: Request) -> OnSale:
    found: OnSale = request.app.state.on_sale
    return found


KnownOnSale = Annotated[OnSale, Depends(_on_sale)]
