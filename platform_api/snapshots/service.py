"""Making snapshots. An item keeps its place for good; one that is off sale keeps it without its text."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from platform_api.catalogue import queries as catalogue
from platform_api.database import Database
from platform_api.problems import Problem
from platform_api.settings import Settings
from platform_api.snapshots import queries
from platform_api.snapshots.files import keep_snapshot, public_key, signing_key, snapshot_file
from platform_api.snapshots.tables import CataloguePosition, Snapshot
from shared.canonical import canonical_json, sha256_hex
from shared.catalogue import CatalogueSnapshot, Item
from shared.errors import CatalogueMismatch
from shared.signed_catalogue import open_catalogue, sign_catalogue
from shared.text_features import build_text_features


@dataclass(frozen=True, kw_only=True)
class _Contents:
    # Items in their places; texts that features are made of; ids that have no place yet; ids that are off sale.
    items: tuple[Item, ...]
    texts: tuple[str, ...]
    fresh: tuple[str, ...]
    unavailable: tuple[str, ...]

    @property
    def digest(self) -> str:
        return sha256_hex(canonical_json([vars(item) for item in self.items]))


def make_snapshot(database: Database, settings: Settings, now: datetime) -> tuple[Snapshot, bool]:
    """The newest snapshot, and whether it was made now: contents that are as before make no second version.

    Raises Problem (409) where nothing was ever on sale, or where another snapshot is made at the same time.
    """
    with database.reading() as session:
        last, placed, contents = queries.latest(session), queries.placed(session), _contents(session)
    if last is not None and last.content_digest == contents.digest:
        return last, False
    if not contents.items:
        raise Problem("conflict", "nothing is on sale that a snapshot could list")
    # Text features take their time, and no lock is held meanwhile.
    made = CatalogueSnapshot(
        version=1 if last is None else last.version + 1,
        items=contents.items,
        features=build_text_features(contents.texts),
    )
    data = made.to_bytes()
    keep_snapshot(settings, made.digest, data)
    row = Snapshot(
        version=made.version,
        digest=made.digest,
        content_digest=contents.digest,
        num_items=made.num_items,
        size_bytes=len(data),
        document=sign_catalogue(made, contents.unavailable, signing_key(settings)).decode(),
        created_at=now,
    )
    try:
        with database.writing() as session:
            session.add(row)
            for position, product_id in enumerate(contents.fresh, start=len(placed)):
                session.add(CataloguePosition(position=position, product_id=product_id))
    except IntegrityError:
        raise Problem("conflict", "another snapshot was made at the same time; read the latest") from None
    return row, True


class PublishedSnapshots:
    """Snapshots by digest, for those who rank over them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def known_digest(self, session: Session, digest: str) -> bool:
        """Whether this service made a snapshot of that digest."""
        return queries.by_digest(session, digest) is not None

    def catalogue(self, session: Session, digest: str) -> CatalogueSnapshot:
        """The snapshot, verified like a client does. Raises ZhiyinError for an unknown digest or a damaged file."""
        row = queries.by_digest(session, digest)
        if row is None:
            raise CatalogueMismatch(f"no catalogue {digest[:12]}… was made here")
        try:
            data = snapshot_file(self._settings, digest).read_bytes()
        except OSError as error:
            raise CatalogueMismatch(f"the file of catalogue {digest[:12]}… cannot be read") from error
        return open_catalogue(row.document.encode(), data, public_key(self._settings)).snapshot


def _contents(session: Session) -> _Contents:
    on_sale = {product.id: product for product in catalogue.published_products(session, None)}
    placed = queries.placed(session)
    known = set(placed)
    fresh = sorted((entry for entry in on_sale.values() if entry.id not in known), key=lambda e: (e.published_at, e.id))
    order = [*placed, *(entry.id for entry in fresh)]
    tree = catalogue.categories(session)
    items, texts = [], []
    for product_id in order:
        product = on_sale.get(product_id)
        if product is None:
            items.append(Item(id=product_id, title=""))
            texts.append("")
            continue
        names = " ".join(f"{entry.name_zh} {entry.name_en}" for entry in catalogue.path_of(tree, product.category))
        items.append(
            Item(
                id=product.id,
                title=product.title,
                category=product.category,
                text=product.description,
                language=product.language,
            )
        )
        texts.append(f"{product.title}\n{names}\n{product.description}")
    return _Contents(
        items=tuple(items),
        texts=tuple(texts),
        fresh=tuple(entry.id for entry in fresh),
        unavailable=tuple(product_id for product_id in placed if product_id not in on_sale),
    )
