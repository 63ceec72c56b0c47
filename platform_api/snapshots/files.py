"""Files of snapshots, and the key that signs them, below the data folder. A crash leaves a file whole or absent."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from platform_api import signing_keys
from platform_api.settings import Settings


def snapshot_file(settings: Settings, digest: str) -> Path:
    """Where the snapshot of a digest is kept."""
    return settings.data_folder / "snapshots" / f"{digest}.bin"


def keep_snapshot(settings: Settings, digest: str, data: bytes) -> None:
    """Write a snapshot's file; one that is there already has the same bytes by its name."""
    path = snapshot_file(settings, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = signing_keys.write_beside(path, data, mode=0o644)
    temporary.replace(path)
    signing_keys.sync_folder(path.parent)


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """The key that signs snapshots; see `platform_api.signing_keys`."""
    return signing_keys.signing_key(settings, "catalogue-signing")


def public_key(settings: Settings) -> str:
    """64 hex digits that clients pin."""
    return signing_keys.public_key(settings, "catalogue-signing")
