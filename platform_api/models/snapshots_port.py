"""The catalogue snapshots that a model may be for. The registry asks; whoever publishes snapshots answers.

`app.state.snapshots` holds the answer in use.
"""

from typing import Annotated, Protocol

from fastapi import Depends, Request
from sqlmodel import Session

from shared.catalogue import CatalogueSnapshot


class Snapshots(Protocol):
    """Published snapshots by digest."""

    def known_digest(self, session: Session, digest: str) -> bool:
        """Whether this service published a snapshot of that digest."""
        ...

    def catalogue(self, session: Session, digest: str) -> CatalogueSnapshot:
        """The snapshot. Raises ZhiyinError for a digest that is not known, or a file that is damaged."""
        ...


async def snapshots_of(request: Request) -> Snapshots:
    found: Snapshots = request.app.state.snapshots
    return found


KnownSnapshots = Annotated[Snapshots, Depends(snapshots_of)]
