"""A catalogue snapshot as its publisher signs it: the signed document names the file by its digest.

The signature is over the kind of document and the canonical form of its fields (see `shared.signed_document`), so one
made for anything else does not fit. Whoever holds the publisher's public key refuses any other file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.canonical import sha256_hex
from shared.catalogue import CatalogueSnapshot, catalogue_from_bytes
from shared.errors import CatalogueMismatch, MalformedMessage
from shared.signed_document import read_document, sign_document, verify_document

KIND = "zhiyin-catalogue-snapshot-1"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class SignedCatalogue:
    """A snapshot whose publisher is known. unavailable: ids of items that keep their place and are on sale no more."""

    snapshot: CatalogueSnapshot
    unavailable: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class CatalogueName:
    """What a signed document says of its file: version, SHA-256 in hex, and ids of items that are on sale no more."""

    version: int
    digest: str
    unavailable: frozenset[str]


def sign_catalogue(snapshot: CatalogueSnapshot, unavailable: Sequence[str], signing_key: Ed25519PrivateKey) -> bytes:
    """The signed document that goes with `snapshot.to_bytes()`."""
    fields = {
        "version": snapshot.version,
        "digest": snapshot.digest,
        "num_items": snapshot.num_items,
        "unavailable": sorted(unavailable),
    }
    return sign_document(KIND, fields, signing_key)


def open_catalogue(document: bytes, data: bytes, public_key: str) -> SignedCatalogue:
    """The snapshot in `data`, if `document` names it and `public_key` (64 hex digits) signed that.

    Raises MalformedMessage, BadSignature, MalformedFile; CatalogueMismatch for a file of another digest or version.
    """
    name = read_name(document, public_key)
    given = sha256_hex(data)
    if given != name.digest:
        raise CatalogueMismatch(
            f"the signed catalogue is {name.digest[:12]}…, the file is {given[:12]}…; fetch it again"
        )
    snapshot = catalogue_from_bytes(data)
    if snapshot.version != name.version or not name.unavailable <= snapshot.index.keys():
        raise CatalogueMismatch(
            f"catalogue version {name.version} was signed, the file says version {snapshot.version}"
        )
    return SignedCatalogue(snapshot=snapshot, unavailable=name.unavailable)


def read_name(document: bytes, public_key: str) -> CatalogueName:
    """What `public_key` (64 hex digits) signed about a snapshot's file. Raises MalformedMessage, BadSignature."""
    fields, signature = read_document(KIND, document)
    verify_document(KIND, fields, signature, public_key, "the publisher of the catalogue")
    version, digest, unavailable = fields.get("version"), fields.get("digest"), fields.get("unavailable")
    if (
        not isinstance(version, int)
        or not isinstance(digest, str)
        or not _DIGEST.fullmatch(digest)
        or not isinstance(unavailable, list)
    ):
        raise MalformedMessage("a signed catalogue names its version, its digest and what is unavailable")
    return CatalogueName(version=version, digest=digest, unavailable=frozenset(map(str, unavailable)))
