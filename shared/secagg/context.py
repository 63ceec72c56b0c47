"""What a round is about, in 32 bytes: salt of every mask, associated data of every seal, part of every signature.

Two parties that differ in any field compute different contexts, and then nothing of the one verifies at the other.
"""

from hashlib import sha256
from struct import Struct

from blake3 import blake3

from shared.errors import WrongContext

CONTEXT_BYTES = 32
_LABEL = b"zhiyin/context/1"
_PAIRWISE = b"zhiyin/context-pairwise/1"
_LENGTH = Struct(">Q").pack


def context(
    *,
    plan_digest: str,
    job_id: str,
    step: int,
    attempt: int,
    num_coordinates: int,
    bits: int,
    inputs_digest: bytes,
    roster_digest: str,
) -> bytes:
    """SHA-256 over the fields. plan_digest, roster_digest: 64 hex digits; inputs_digest: 32 bytes.

    attempt: a round that failed is asked for again under another number, never under the same.
    Raises WrongContext for a field that cannot be encoded.
    """
    try:
        digests = bytes.fromhex(plan_digest), inputs_digest, bytes.fromhex(roster_digest)
        numbers = tuple(number.to_bytes(8, "big") for number in (step, attempt, num_coordinates, bits))
    except (ValueError, OverflowError) as error:
        raise WrongContext(f"a context cannot be made of these fields: {error}") from error
    if any(len(digest) != 32 for digest in digests):
        raise WrongContext("the digests in a context have 32 bytes")
    return digest_fields(_LABEL, digests[0], job_id.encode(), *numbers, digests[1], digests[2])


def pairwise_context(base: bytes, *, num_parties: int, degree: int, threshold: int, min_active: int) -> bytes:
    """The context of a round of topology P: `base` (from `context`) and the numbers that its safety rests on.

    The label keeps it apart from every context of topology H. Raises WrongContext for numbers that are none.
    """
    if len(base) != CONTEXT_BYTES:
        raise WrongContext(f"a context has {CONTEXT_BYTES} bytes, got {len(base)}")
    try:
        numbers = tuple(number.to_bytes(8, "big") for number in (num_parties, degree, threshold, min_active))
    except OverflowError as error:
        raise WrongContext(f"a context cannot be made of these fields: {error}") from error
    return digest_fields(_PAIRWISE, base, *numbers)


def digest_fields(*fields: bytes) -> bytes:
    """SHA-256 of the fields, each after its length in 8 bytes, so that no two lists of fields share an encoding."""
    return sha256(join_fields(*fields)).digest()


def vector_digest(packed: bytes) -> bytes:
    """BLAKE3 of a packed vector, 32 bytes: what is signed in its place (docs/adr/0012-blake3-for-vectors.md).

    Vectors are megabytes and hashed by their sender and again by the server. Everything else is SHA-256.
    """
    hasher = VectorHasher()
    hasher.update(packed)
    return hasher.digest()


class VectorHasher:
    """`vector_digest` of a vector that is given in parts, while they are still in the processor's cache."""

    def __init__(self) -> None:
        self._hasher = blake3()

    def update(self, packed: bytes | memoryview) -> None:
        self._hasher.update(packed)

    def digest(self) -> bytes:
        """Of all parts so far, one after the other."""
        return bytes(self._hasher.digest())


def join_fields(*fields: bytes) -> bytes:
    """The encoding that `digest_fields` hashes; signatures are made over it too."""
    # A list and a packer of integers: a pairwise round encodes some hundred fields a party, so that it is felt.
    return b"".join([_LENGTH(len(field)) + field for field in fields])
