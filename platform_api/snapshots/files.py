"""Files of snapshots and the key that signs them, below the data folder. A crash leaves a file whole or absent."""

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from platform_api.settings import Settings
from shared.errors import BadSetting

_KEY_NAME = "catalogue-signing.key"


def snapshot_file(settings: Settings, digest: str) -> Path:
    """Where the snapshot of a digest is kept."""
    return settings.data_folder / "snapshots" / f"{digest}.bin"


def keep_snapshot(settings: Settings, digest: str, data: bytes) -> None:
    """Write a snapshot's file; one that is there already has the same bytes by its name."""
    path = snapshot_file(settings, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _written(path, data, mode=0o644)
    temporary.replace(path)
    _sync(path.parent)


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """The key that signs snapshots, made at first use, readable by its owner alone. Raises BadSetting if damaged."""
    path = settings.data_folder / "keys" / _KEY_NAME
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = _written(path, secrets.token_bytes(32).hex().encode(), mode=0o600)
        try:
            # Of two processes that begin at once one makes the key, and both use that.
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        _sync(path.parent)
    if path.stat().st_mode & 0o077:
        raise BadSetting(f"{path} can be read by others; chmod 600 it, or replace the key if others had access")
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text(encoding="ascii")))
    except ValueError:
        raise BadSetting(f"{path} is no signing key of 64 hexadecimal digits; restore it from a backup") from None


def public_key(settings: Settings) -> str:
    """64 hex digits that clients pin."""
    return signing_key(settings).public_key().public_bytes_raw().hex()


def _written(path: Path, data: bytes, *, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
