"""A small JSON document with one Ed25519 signature, made to be kept in a file or sent by mail, and read by people.

The signature is over the kind of the document and the canonical form of its fields, so white space may change on the
way and nothing else.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.canonical import canonical_json, strict_json
from shared.errors import BadSignature, MalformedMessage

MAX_DOCUMENT_BYTES = 16 * 2**20
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


def sign_document(kind: str, fields: Mapping[str, Any], signing_key: Ed25519PrivateKey) -> bytes:
    """The document as indented JSON. `fields` hold no floats."""
    signature = signing_key.sign(_message(kind, fields)).hex()
    text = json.dumps({"kind": kind, "fields": fields, "signature": signature}, indent=2, ensure_ascii=False)
    return text.encode() + b"\n"


def read_document(kind: str, data: bytes) -> tuple[dict[str, Any], str]:
    """Fields and signature of a document of this kind, not yet verified. Raises MalformedMessage."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise MalformedMessage(f"a document has at most {MAX_DOCUMENT_BYTES} bytes, got {len(data)}")
    try:
        found = strict_json(data)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"it is damaged: not JSON with each key once: {error}") from error
    if not isinstance(found, dict) or sorted(found) != ["fields", "kind", "signature"] or found["kind"] != kind:
        raise MalformedMessage(f"it is no document of the kind {kind}")
    fields, signature = found["fields"], found["signature"]
    if not isinstance(fields, dict) or not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        raise MalformedMessage(f"it is no document of the kind {kind}")
    return fields, signature


def verify_document(kind: str, fields: Mapping[str, Any], signature: str, public: str, signer: str) -> None:
    """Raise BadSignature, naming `signer`, unless `public` (64 hex digits) verifies a signature of these fields."""
    try:
        message = _message(kind, fields)
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError, RecursionError) as error:
        raise BadSignature(f"it is not signed by {signer}, or was changed since") from error


def _message(kind: str, fields: Mapping[str, Any]) -> bytes:
    return kind.encode() + b"\x00" + canonical_json(fields)
