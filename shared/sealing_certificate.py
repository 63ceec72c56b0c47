"""A helper's sealing key in the helper's own words: X25519, certified by its Ed25519 signing key, for a stated time.

Whoever seals to a helper has pinned the helper's signing key and checks the certificate under that pin. So the key can
change as often as the helper likes, without a change of anybody's policy, and neither the server that carries the
roster nor the issuer that signs it can put a sealing key of their own in its place.
"""

import re
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared.canonical import canonical_json
from shared.errors import BadSetting, BadSignature, ExpiredKey

_LABEL = b"zhiyin/sealing-key/1\x00"
_KEY = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True, kw_only=True)
class SealingCertificate:
    """Raises BadSetting for a field that cannot be used; that the signature holds is for `opened` to say.

    key: X25519, 64 hex digits. not_before, not_after: seconds since 1970 UTC, both inclusive. signature: Ed25519 of
    the helper over its name and these fields, 128 hex digits.
    """

    key: str
    not_before: int
    not_after: int
    signature: str

    def __post_init__(self) -> None:
        if not _is_text(_KEY, self.key):
            raise BadSetting("sealing certificate: key must be 64 hex digits")
        if not _is_text(_SIGNATURE, self.signature):
            raise BadSetting("sealing certificate: signature must be 128 hex digits")
        times = (self.not_before, self.not_after)
        if not all(type(time) is int and 0 <= time < 2**53 for time in times) or self.not_before > self.not_after:
            raise BadSetting("sealing certificate: not_before and not_after must be whole seconds, in this order")

    def opened(self, name: str, signing_key: str, now: int) -> bytes:
        """The X25519 public key, 32 bytes, if the holder of `signing_key` (64 hex digits) certified it for `name`.

        Raises BadSignature, or ExpiredKey outside the stated time.
        """
        message = _message(name, self.key, self.not_before, self.not_after)
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(signing_key)).verify(
                bytes.fromhex(self.signature), message
            )
        except (InvalidSignature, ValueError) as error:
            raise BadSignature(f"the sealing key listed for {name} is not certified by {name}'s signing key") from error
        if not self.not_before <= now <= self.not_after:
            raise ExpiredKey(
                f"the sealing key of {name} is certified from {self.not_before} to {self.not_after}, now is {now}; "
                f"{name} makes the next one with `zhiyin client keys rotate`"
            )
        return bytes.fromhex(self.key)


def certify_sealing_key(
    name: str, key: str, *, not_before: int, not_after: int, signing_key: Ed25519PrivateKey
) -> SealingCertificate:
    """The holder of `signing_key` says that seals to `name` go to `key` from `not_before` to `not_after`."""
    signature = signing_key.sign(_message(name, key, not_before, not_after)).hex()
    return SealingCertificate(key=key, not_before=not_before, not_after=not_after, signature=signature)


def _message(name: str, key: str, not_before: int, not_after: int) -> bytes:
    fields = {"name": name, "key": key, "not_before": not_before, "not_after": not_after}
    return _LABEL + canonical_json(fields)


def _is_text(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
