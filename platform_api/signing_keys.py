"""Ed25519 keys of this service, each for one purpose, below the data folder. A crash leaves a file whole or absent."""

import os
import secrets
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from platform_api.settings import Settings
from shared.errors import BadSetting

Purpose = Literal["catalogue-signing", "platform-signing"]


def signing_key(settings: Settings, purpose: Purpose) -> Ed25519PrivateKey:
    """The key of a purpose, made at first use, readable by its owner alone. Raises BadSetting if damaged."""
    path = settings.data_folder / "keys" / f"{purpose}.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = write_beside(path, secrets.token_bytes(32).hex().encode(), mode=0o600)
        try:
            # Of two processes that begin at once one makes the key, and both use that.
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        sync_folder(path.parent)
    if path.stat().st_mode & 0o077:
        raise BadSetting(f"{path} can be read by others; chmod 600 it, or replace the key if others had access")
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text(encoding="ascii")))
    except ValueError:
        raise BadSetting(f"{path} is no signing key of 64 hexadecimal digits; restore it from a backup") from None


def public_key(settings: Settings, purpose: Purpose) -> str:
    """64 hex digits that clients pin."""
    return signing_key(settings, purpose).public_key().public_bytes_raw().hex()


def write_beside(path: Path, data: bytes, *, mode: int) -> Path:
    """A temporary file in the folder of `path`, on the disk, to be renamed or linked to it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def sync_folder(folder: Path) -> None:
    """Make a rename or link in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
