"""Private files that are whole or absent: temporary file, fsync, rename, fsync of the folder."""

import os
import secrets
import stat
from pathlib import Path

from shared.errors import BadSetting

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def make_folder(folder: Path) -> None:
    """Create `folder` (and its parents) readable by its owner alone; an existing folder is left as it is."""
    if not folder.is_dir():
        folder.mkdir(parents=True, mode=PRIVATE_FOLDER)
        folder.chmod(PRIVATE_FOLDER)


def create_empty(path: Path) -> None:
    """An empty private file; FileExistsError if there is one already."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE))
    sync_folder(path.parent)


def write_file(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a crash leaves the old bytes or the new ones, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def erase_file(path: Path) -> None:
    """Overwrite the bytes of `path`, then remove it, both durably; nothing if it is not there.

    What that promises depends on what is below: a file system or a drive that writes elsewhere (journals of data,
    copy on write, flash with wear levelling, snapshots, backups) may keep the old bytes for as long as it likes.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add one line durably.

    The line break comes first as well: after a torn write the fragment stays on a line of its own.
    One `write` on an O_APPEND descriptor keeps lines of several processes apart.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"\n{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a creation or rename in `folder` survive a power cut (a rename alone does not)."""
    if os.name == "nt":  # folders cannot be opened there; NTFS journals the rename
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def others_may_read(path: Path) -> bool:
    """Whether the mode of `path` gives anything to the group or the world."""
    return os.name != "nt" and bool(stat.S_IMODE(path.stat().st_mode) & 0o077)


def require_private(path: Path, *, mend: str = "restore it from a backup or make a new home") -> None:
    """Raise BadSetting, with the mend (`mend` if it is missing), unless `path` exists for its owner alone."""
    if not path.is_file():
        raise BadSetting(f"{path}: the file is missing; {mend}")
    if others_may_read(path):
        mode = stat.S_IMODE(path.stat().st_mode)
        raise BadSetting(f"{path}: mode {mode:04o} lets others read it; run: chmod 600 {path}")
