"""What people bought and rated. Lists and the federation's training data ask; orders and reviews answer.

`app.state.histories` holds the answer in use.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import Depends, Request
from sqlmodel import Session


class Histories(Protocol):
    """Histories of single people, by id. Product ids are those of the catalogue snapshots."""

    def purchases(self, session: Session, user_id: str) -> list[tuple[str, datetime]]:
        """(product_id, when it was paid), in any order; what was refunded in full is not among them."""
        ...

    def ratings(self, session: Session, user_id: str) -> list[tuple[str, int, datetime]]:
        """(product_id, 1 to 5 stars, when)."""
        ...

    def owned(self, session: Session, user_id: str) -> Collection[str]:
        """Products that the person may already read, bought or given."""
        ...


def _histories(request: Request) -> Histories:
    found: Histories = request.app.state.histories
    return found


KnownHistories = Annotated[Histories, Depends(_histories)]
