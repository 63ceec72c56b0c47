"""The public catalogue that every party ranks over: a version, a digest, items and their text features."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shared.canonical import canonical_json, sha256_hex, strict_json
from shared.errors import CatalogueMismatch, MalformedFile, UnknownItem

FORMAT = "zhiyin-catalogue-1"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One public entry. `language` is a BCP 47 tag; `text` is what a shop page shows."""

    id: str
    title: str
    category: str = ""
    text: str = ""
    language: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class CatalogueSnapshot:
    """Items in a fixed order with features float32 (num_items, num_features), rows of unit length or zero.

    The digest covers every field, so equal digests mean equal bytes.
    """

    version: int
    items: tuple[Item, ...]
    features: NDArray[np.float32]

    def __post_init__(self) -> None:
        if not self.items:
            raise MalformedFile("catalogue: it lists no items")
        if len({item.id for item in self.items}) != len(self.items):
            raise MalformedFile("catalogue: two items share an id; ids must be unique")
        if self.features.ndim != 2 or len(self.features) != len(self.items):
            raise MalformedFile("catalogue: features need one row for each item")
        if not np.all(np.isfinite(self.features)):
            raise MalformedFile("catalogue: features hold a value that is not finite")

    @property
    def num_items(self) -> int:
        return len(self.items)

    @cached_property
    def index(self) -> Mapping[str, int]:
        return {item.id: position for position, item in enumerate(self.items)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex of `to_bytes`."""
        return sha256_hex(self.to_bytes())

    def position(self, item_id: str) -> int:
        """Index of an item; raises UnknownItem."""
        try:
            return self.index[item_id]
        except KeyError:
            raise UnknownItem(f"item {item_id!r} is not in catalogue version {self.version}") from None

    def require(self, digest: str, holder: str) -> None:
        """Raise CatalogueMismatch unless `digest` is this snapshot's."""
        if digest != self.digest:
            raise CatalogueMismatch(
                f"{holder} is for catalogue {digest[:12]}…, here is {self.digest[:12]}… (version {self.version}); "
                "fetch the snapshot that it names"
            )

    def to_bytes(self) -> bytes:
        """A line of canonical JSON, then the features as little-endian float32 in row order."""
        header = {
            "format": FORMAT,
            "version": self.version,
            "num_features": int(self.features.shape[1]),
            "items": [vars(item) for item in self.items],
        }
        return canonical_json(header) + b"\n" + np.ascontiguousarray(self.features, dtype="<f4").tobytes()


def catalogue_from_bytes(data: bytes) -> CatalogueSnapshot:
    """Inverse of `CatalogueSnapshot.to_bytes`; raises MalformedFile."""
    line, separator, raw = data.partition(b"\n")
    try:
        header = strict_json(line)
        if header["format"] != FORMAT or not separator:
            raise ValueError(f"format is {header['format']!r}, expected {FORMAT!r}")
        items = tuple(Item(**entry) for entry in header["items"])
        version, width = header["version"], header["num_features"]
        if not all(type(text) is str for item in items for text in vars(item).values()):
            raise ValueError("the fields of an item must be text")
        if type(version) is not int or type(width) is not int or width < 0:
            raise ValueError("version and num_features must be whole numbers")
        features = np.frombuffer(raw, dtype="<f4").astype(np.float32).reshape(len(items), width)
        return CatalogueSnapshot(version=version, items=items, features=features)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedFile(f"catalogue snapshot cannot be read: {error}") from error
