"""Files of artifacts, each named by its SHA-256: a name can hold one content only, so nothing is ever overwritten.

A file is whole under its name or not there: written beside, flushed to the disk, renamed.
"""

import os
import secrets
from pathlib import Path

from shared.canonical import sha256_hex


class ArtifactStore:
    """Content-addressed files in one folder, shared by the service's processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "models"

    def path(self, digest: str) -> Path:
        """Where the file of this digest is, if it is."""
        return self._folder / digest

    def keep(self, data: bytes) -> str:
        """Store; returns the digest. Called before the row that names it is committed."""
        digest = sha256_hex(data)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = self.path(digest)
        if target.is_file() and sha256_hex(target.read_bytes()) == digest:
            return digest
        temporary = self._folder / f".{digest}.{secrets.token_hex(6)}.part"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._sync()
        return digest

    def read(self, digest: str) -> bytes:
        """The bytes, unverified: who reads them checks signature and digest. Raises OSError."""
        return self.path(digest).read_bytes()

    def _sync(self) -> None:
        # A rename survives a power cut only once its folder is on the disk too.
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
