"""The code that a node may run, as one file: Flower's app bundle (a zip), named by the SHA-256 of its bytes.

A partner who reviewed a source tree builds the bundle, or is handed one and compares `bundle_contents` with the files
reviewed, and puts the digest on the allow-list. The same files give the same digest: names are sorted, times fixed.
"""

import hashlib
import io
import os
import warnings
import zipfile
from pathlib import Path

from shared.errors import BadSetting

MANIFEST = ".info/CONTENT"


def build_bundle(project: Path) -> bytes:
    """Build the bundle of the app in `project`, byte for byte what `flwr build` and `flwr run` make of it.

    Raises BadSetting for a folder that holds no valid Flower app.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Flower's calls of its own dependencies
        from flwr.cli.build import build_fab_from_files

        try:
            return build_fab_from_files(_files(project))[0]
        except (ValueError, OSError) as error:
            raise BadSetting(f"{project}: no app bundle can be built here: {error}") from error


def bundle_digest(bundle: bytes | Path) -> str:
    """Return the SHA-256, in hex, of a bundle, or of the bundle built from a project folder."""
    return hashlib.sha256(build_bundle(bundle) if isinstance(bundle, Path) else bundle).hexdigest()


def bundle_contents(bundle: bytes) -> dict[str, str]:
    """Return path -> SHA-256 in hex of every file in the bundle, for comparison with a reviewed source tree."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist() if name != MANIFEST}


def _files(project: Path) -> dict[str, Path]:
    """Files by path with slashes. Hidden folders and caches, which no bundle may hold, are not even walked through."""
    files: dict[str, Path] = {}
    for folder, subfolders, names in os.walk(project):
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and name != "__pycache__"]
        for path in (Path(folder, name) for name in names):
            if not path.is_symlink():
                files[path.relative_to(project).as_posix()] = path
    return files


def parse_digest(text: str) -> str:
    """Return `text` as a digest in lower case; raises BadSetting unless it is 64 hexadecimal digits."""
    digest = text.strip().lower()
    if len(digest) != 64 or any(letter not in "0123456789abcdef" for letter in digest):
        raise BadSetting(f"{text!r} is no bundle digest: 64 hexadecimal digits are needed (SHA-256 of the bundle)")
    return digest
