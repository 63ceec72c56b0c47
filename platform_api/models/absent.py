"""The answer of a service that publishes no snapshots."""

from sqlmodel import Session

from shared.catalogue import CatalogueSnapshot
from shared.errors import CatalogueMismatch


class NoSnapshots:
    """Knows no catalogue, so no model passes the gate."""

    def known_digest(self, session: Session, digest: str) -> bool:
        return False

    def catalogue(self, session: Session, digest: str) -> CatalogueSnapshot:
        raise CatalogueMismatch(f"no snapshot {digest[:12]}… was published here")
