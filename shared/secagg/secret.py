"""Bytes that nothing shows by accident: no repr, format, pickle, copy or comparison gives them away."""

from typing import Any


class Secret:
    """Secret bytes. `reveal` is the only way to them, so that a search for it finds every use."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "Secret(<hidden>)"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret must not be pickled or copied")

    def reveal(self) -> bytes:
        return self._secret
