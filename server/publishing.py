"""The model registry, a folder: `<name>/<version>/` with the two signed files, and `<name>/latest`, naming a version.

A version's folder appears by one rename with both files in it, and `latest` changes by another one, so a crash at any
instant leaves the old model or the new one and readers never see half a version.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.durable_files import make_folder, sync_folder, write_file
from shared.artifact import MANIFEST_FILE, MODEL_FILE, Artifact, ArtifactFiles, open_artifact, seal_artifact
from shared.errors import ArtifactRejected, BadSetting

LATEST = "latest"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_UNFINISHED = ".unfinished-"


def publish(registry: Path, name: str, artifact_of: Callable[[int], Artifact], signing_key: Ed25519PrivateKey) -> int:
    """Sign and publish a model; returns its version, one more than the highest there.

    artifact_of: the artifact for a version number. A version that already holds the same plan's model, left by a run
    that crashed after publishing, is pointed at again, not doubled. Raises BadSetting or ArtifactRejected.
    """
    if not _NAME.fullmatch(name):
        raise BadSetting(f"model name must be 1 to 64 of a-z, 0-9 and hyphens, got {name!r}")
    shelf = registry / name
    make_folder(shelf)
    _clear_unfinished(shelf)
    known = versions(shelf)
    version = max(known, default=0) + 1
    artifact = artifact_of(version)
    if known and _same_plan(shelf, known[-1], artifact, signing_key):
        version = known[-1]
    else:
        _place(shelf, version, seal_artifact(artifact, signing_key))
    write_file(shelf / LATEST, f"{version}\n".encode())
    return version


def versions(shelf: Path) -> tuple[int, ...]:
    """Versions that are there as a whole, in rising order."""
    return tuple(sorted(int(path.name) for path in shelf.iterdir() if path.is_dir() and path.name.isdecimal()))


def read_latest(registry: Path, name: str) -> ArtifactFiles:
    """The files of the version that `latest` names, unverified. Raises ArtifactRejected when there is none."""
    shelf = registry / name
    try:
        version = int((shelf / LATEST).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ArtifactRejected(f"{shelf}: no published model can be read: {error}") from error
    return read_version(shelf / str(version))


def read_version(folder: Path) -> ArtifactFiles:
    """The two files of one version, unverified. Raises ArtifactRejected."""
    try:
        return ArtifactFiles(model=(folder / MODEL_FILE).read_bytes(), manifest=(folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise ArtifactRejected(f"{folder}: no published model can be read: {error}") from error


def _place(shelf: Path, version: int, files: ArtifactFiles) -> None:
    unfinished = shelf / f"{_UNFINISHED}{version}"
    unfinished.mkdir()
    write_file(unfinished / MODEL_FILE, files.model)
    write_file(unfinished / MANIFEST_FILE, files.manifest)
    unfinished.rename(shelf / str(version))
    sync_folder(shelf)


def _same_plan(shelf: Path, version: int, artifact: Artifact, signing_key: Ed25519PrivateKey) -> bool:
    folder = shelf / str(version)
    public = signing_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    try:
        files = ArtifactFiles(model=(folder / MODEL_FILE).read_bytes(), manifest=(folder / MANIFEST_FILE).read_bytes())
        there = open_artifact(files, publisher_public_key=public)
    except (OSError, ArtifactRejected):
        return False
    fresh = seal_artifact(artifact, signing_key)
    return there.plan_digest == artifact.plan_digest and files.model == fresh.model


def _clear_unfinished(shelf: Path) -> None:
    for path in shelf.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path)
