"""Digests short enough to be read out over the telephone: eight groups of four hex digits, 128 bits."""

from hashlib import sha256

from shared.errors import BadSetting

_LABEL = b"zhiyin/fingerprint/1\x00"
_DIGITS = 32


def fingerprint(data: bytes) -> str:
    """Of a key or of a signed request; the same bytes give the same words on both ends of the line."""
    digits = sha256(_LABEL + data).hexdigest()[:_DIGITS]
    return " ".join(digits[at : at + 4] for at in range(0, _DIGITS, 4))


def key_fingerprint(public: str) -> str:
    """Of a public key in hex."""
    return fingerprint(bytes.fromhex(public))


def require_fingerprint(given: str, expected: str, what: str) -> None:
    """Raise BadSetting unless `given`, however it is grouped, is all of `expected`."""
    digits = "".join(letter for letter in given.lower() if letter not in " -:\t\n")
    if digits != expected.replace(" ", ""):
        raise BadSetting(f"the fingerprint of {what} is {expected}, not {given!r}; nothing was changed")
