"""What people bought and rated. Lists and the federation's training data ask; orders and reviews answer.

`app.state.histories` holds the answer in use.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import Depends, Request
from sqlmodel import Session


@dataclass(frozen=True, kw_only=True)
class Held:
    """purchases: (product_id, when it was paid), in any order; what was refunded in full is not among them.

    owned: products that the person may already read, bought or given.
    """

    purchases: tuple[tuple[str, datetime], ...]
    owned: frozenset[str]


class Histories(Protocol):
    """Histories of single people, by id. Product ids are those of the catalogue snapshots."""

    def held(self, session: Session, user_id: str) -> Held:
        """What the person bought and what they may read, from one reading of their claims."""
        ...

    def ratings(self, session: Session, user_id: str) -> list[tuple[str, int, datetime]]:
        """(product_id, 1 to 5 stars, when)."""
        ...


async def _histories(request: Request) -> Histories:
    found: Histories = request.app.state.histories
    return found


KnownHistories = Annotated[Histories, Depends(_histories)]
