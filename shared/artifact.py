"""The published model: tensors (safetensors) and a signed JSON manifest that says what they are and what they cost.

Two files make one artifact, `model.safetensors` and `manifest.json`. The manifest holds the digest of the first and an
Ed25519 signature over its own canonical JSON without the signature, so nothing in either can change unnoticed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from shared.accounting import PrivacyStatement
from shared.canonical import canonical_json, sha256_hex, strict_json
from shared.errors import ArtifactRejected, CatalogueMismatch, UnknownMechanism

FORMAT = "zhiyin-model-1"
MODEL_FILE = "model.safetensors"
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 2**20
_DOMAIN = b"zhiyin model manifest 1\x00"


@dataclass(frozen=True, kw_only=True, eq=False)
class Artifact:
    """A model as everybody may have it.

    name, version: the registry's. created: Unix seconds, UTC. recipe: which one trained it.
    settings: read-out and fold-in settings, JSON values. tensors: named arrays, finite, no user's factors among them.
    """

    name: str
    version: int
    created: int
    recipe: str
    catalogue_digest: str
    plan_digest: str
    settings: Mapping[str, Any]
    privacy: PrivacyStatement
    tensors: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ArtifactFiles:
    """The two files' bytes, ready to be written."""

    model: bytes
    manifest: bytes


def seal_artifact(artifact: Artifact, signing_key: Ed25519PrivateKey) -> ArtifactFiles:
    """Serialise and sign. Raises ArtifactRejected for a tensor with values that are not finite."""
    for name, tensor in artifact.tensors.items():
        if tensor.dtype.kind == "f" and not np.all(np.isfinite(tensor)):
            raise ArtifactRejected(f"tensor {name} holds a value that is not finite; nothing was published")
    model = save({name: np.ascontiguousarray(tensor) for name, tensor in artifact.tensors.items()})
    public = signing_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    body = {
        "format": FORMAT,
        "name": artifact.name,
        "version": artifact.version,
        "created": artifact.created,
        "recipe": artifact.recipe,
        "catalogue_digest": artifact.catalogue_digest,
        "plan_digest": artifact.plan_digest,
        "settings": dict(artifact.settings),
        "privacy": artifact.privacy.to_json(),
        "model_sha256": sha256_hex(model),
        "model_size_bytes": len(model),
        "publisher": public.hex(),
    }
    signature = signing_key.sign(_DOMAIN + canonical_json(body))
    return ArtifactFiles(model=model, manifest=canonical_json({**body, "signature": signature.hex()}) + b"\n")


def open_artifact(
    files: ArtifactFiles, *, publisher_public_key: bytes, catalogue_digest: str | None = None
) -> Artifact:
    """Verify, then read.

    publisher_public_key: the pinned Ed25519 key, 32 raw bytes. catalogue_digest: when given, the model must be for it.
    Raises ArtifactRejected, or CatalogueMismatch.
    """
    if len(files.manifest) > MAX_MANIFEST_BYTES:
        raise ArtifactRejected(f"a manifest has at most {MAX_MANIFEST_BYTES} bytes, got {len(files.manifest)}")
    try:
        body = strict_json(files.manifest)
        signature = bytes.fromhex(body.pop("signature"))
        if body["format"] != FORMAT:
            raise ArtifactRejected(f"manifest is of format {body['format']!r}, this version reads {FORMAT}")
        Ed25519PublicKey.from_public_bytes(publisher_public_key).verify(signature, _DOMAIN + canonical_json(body))
    except InvalidSignature:
        raise ArtifactRejected(
            "manifest's signature does not verify under the pinned publisher key; fetch it again from the registry"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactRejected(f"manifest cannot be read: {error}") from error
    _check_fields(body)
    if sha256_hex(files.model) != body["model_sha256"]:
        raise ArtifactRejected(f"{MODEL_FILE} does not match the signed manifest; fetch it again from the registry")
    if catalogue_digest is not None and body["catalogue_digest"] != catalogue_digest:
        raise CatalogueMismatch(
            f"model {body['name']} version {body['version']} is for catalogue {body['catalogue_digest'][:12]}…, "
            f"here is {catalogue_digest[:12]}…; install the snapshot it was trained on"
        )
    return _artifact(body, files.model)


def _check_fields(body: dict[str, Any]) -> None:
    # What a publisher signs is believed, but not to be of the types that a reader goes on to compute with.
    wanted = {"name": str, "version": int, "created": int, "recipe": str, "catalogue_digest": str, "plan_digest": str}
    for name, kind in {**wanted, "settings": dict, "privacy": dict, "model_sha256": str}.items():
        if type(body.get(name)) is not kind:
            raise ArtifactRejected(f"signed manifest cannot be read by this version: {name} is missing or no {kind}")


def _artifact(body: dict[str, Any], model: bytes) -> Artifact:
    try:
        return Artifact(
            name=body["name"],
            version=body["version"],
            created=body["created"],
            recipe=body["recipe"],
            catalogue_digest=body["catalogue_digest"],
            plan_digest=body["plan_digest"],
            settings=body["settings"],
            privacy=PrivacyStatement.from_json(body["privacy"]),
            tensors=load(model),
        )
    except (KeyError, TypeError, ValueError, OverflowError, SafetensorError, UnknownMechanism) as error:
        raise ArtifactRejected(f"signed model cannot be read by this version: {error}") from error
