"""What a home takes from the platform that it joined: the signed catalogue snapshot, and the signed model.

Both are public. The questions say nothing of the home, and nothing that comes back is used before its signature was
verified under a pinned key.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from client.durable_files import write_file
from client.home import SIGNED_CATALOGUE_FILE, ClientHome
from client.joining import join, pinned, require_joined
from client.platform_http import Platform
from client.policy import LocalPolicy
from client.recommend import install_files, installed_files, verified
from shared.artifact import MAX_MANIFEST_BYTES, Artifact, ArtifactFiles
from shared.canonical import canonical_json, sha256_hex, strict_json
from shared.catalogue import CatalogueSnapshot
from shared.errors import ArtifactRejected, CatalogueMismatch, MalformedMessage
from shared.invitation import Invitation
from shared.signed_catalogue import open_catalogue, read_name

MAX_CATALOGUE_BYTES = 2**30
MAX_MODEL_BYTES = 2**30
_PAGE = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class FetchedCatalogue:
    """A verified snapshot, and the signed document that names it."""

    snapshot: CatalogueSnapshot
    document: bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class FetchedModel:
    """The live model. is_new: whether it was not installed before. moved: to the snapshot that it is for, if it was."""

    artifact: Artifact
    is_new: bool
    moved: CatalogueSnapshot | None = None


class CatalogueSource(Protocol):
    """Where snapshots are, and the key that signs them, 64 hex digits: an invitation says both."""

    @property
    def platform_url(self) -> str: ...

    @property
    def snapshots_url(self) -> str: ...

    @property
    def catalogue_key(self) -> str: ...


def fetch_catalogue(source: CatalogueSource, folder: Path, *, version: int | None = None) -> FetchedCatalogue:
    """A snapshot, the newest unless a version is given, verified under the source's key.

    folder: for the part of a file that is not whole. Raises DeploymentError, MalformedMessage, BadSignature,
    CatalogueMismatch.
    """
    platform = Platform(source.platform_url)
    place = _below(source) + ("/latest" if version is None else f"/{version}")
    return _opened(platform, source, folder, platform.get_json(place))


def adopt_catalogue(folder: Path, fetched: FetchedCatalogue) -> int:
    """Move a home to a fetched snapshot; how many events are of items that it does not list."""
    left_out = ClientHome.adopt_catalogue(folder, fetched.snapshot)
    write_file(folder / SIGNED_CATALOGUE_FILE, fetched.document)
    return left_out


def make_joined(home: Path, data: bytes, invitation: Invitation, policy: LocalPolicy) -> ClientHome:
    """A new home with the invitation's pins, on the platform's newest snapshot."""
    with tempfile.TemporaryDirectory() as folder:
        fetched = fetch_catalogue(invitation, Path(folder))
    made = ClientHome.create(home, policy=pinned(policy, invitation), catalogue=fetched.snapshot)
    write_file(made.folder / SIGNED_CATALOGUE_FILE, fetched.document)
    join(made.folder, data, invitation)
    return made


def fetch_model(folder: Path) -> FetchedModel:
    """Install the platform's live model, and move to the snapshot that it is for where the home has another.

    Raises DeploymentError, ArtifactRejected, CatalogueMismatch, BadSetting; the model that is there stays then.
    """
    home, invitation = ClientHome.open(folder), require_joined(folder)
    platform, kept = Platform(invitation.platform_url), _sound_files(home)
    files = _live_files(platform, invitation.model, kept, home.models)
    artifact = verified(home, files)
    if artifact.name != invitation.model:
        raise ArtifactRejected(f"the live model is {artifact.name!r}, the invitation is for {invitation.model!r}")
    moved = None
    if artifact.catalogue_digest != home.catalogue.digest:
        fetched = _of_digest(platform, invitation, home.models, artifact.catalogue_digest)
        adopt_catalogue(folder, fetched)
        home, moved = ClientHome.open(folder), fetched.snapshot
    if files is not kept:
        install_files(home, files)
    return FetchedModel(artifact=artifact, is_new=files is not kept, moved=moved)


def _sound_files(home: ClientHome) -> ArtifactFiles | None:
    # What was damaged here since is fetched again, not asked about.
    try:
        files = installed_files(home)
        if files is not None:
            verified(home, files)
    except (ArtifactRejected, OSError):
        return None
    return files


def _live_files(platform: Platform, name: str, kept: ArtifactFiles | None, folder: Path) -> ArtifactFiles:
    etag = "" if kept is None else f'"{sha256_hex(kept.manifest)}"'
    answer = platform.get(f"/api/v1/models/{name}/live", limit=MAX_MANIFEST_BYTES, etag=etag)
    if answer.status == 304 and kept is not None:
        return kept
    said = _read_manifest(answer.body)
    if said.size > MAX_MODEL_BYTES:
        raise ArtifactRejected(f"the model has {said.size} bytes; at most {MAX_MODEL_BYTES} are taken")
    tensors = platform.get_file(
        f"/api/v1/models/{name}/versions/{said.version}/model",
        digest=said.digest,
        limit=said.size,
        part=folder / f"{said.digest}.part",
    )
    return ArtifactFiles(model=tensors, manifest=answer.body)


@dataclass(frozen=True, kw_only=True)
class _Said:
    # Of a manifest that is not verified yet: enough to fetch what it names, which is verified together with it.
    version: int
    digest: str
    size: int


def _read_manifest(manifest: bytes) -> _Said:
    try:
        found = strict_json(manifest)
        said = _Said(
            version=int(found["version"]),
            digest=str(found["model_sha256"]),
            size=int(found["model_size_bytes"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ArtifactRejected("the live model's manifest cannot be read; try again later") from error
    # The digest becomes the name of a file here.
    if len(said.digest) != 64 or not set(said.digest) <= set("0123456789abcdef") or said.size < 0 or said.version < 1:
        raise ArtifactRejected("the live model's manifest cannot be read; try again later")
    return said


def _of_digest(platform: Platform, source: CatalogueSource, folder: Path, digest: str) -> FetchedCatalogue:
    for entry in _snapshots(platform, source):
        if entry.get("digest") == digest and type(entry.get("version")) is int:
            view = platform.get_json(f"{_below(source)}/{entry['version']}")
            return _opened(platform, source, folder, view)
    raise CatalogueMismatch(f"the platform lists no catalogue {digest[:12]}…, which its live model is for")


def _snapshots(platform: Platform, source: CatalogueSource) -> Iterator[dict[str, Any]]:
    cursor = ""
    while True:
        page = platform.get_json(f"{_below(source)}?limit={_PAGE}{cursor}")
        entries = page.get("items")
        if not isinstance(entries, list):
            raise MalformedMessage("the platform's list of snapshots cannot be read")
        yield from (entry for entry in entries if isinstance(entry, dict))
        if not page.get("has_more") or not entries:
            return
        cursor = f"&cursor={quote(str(page.get('next_cursor')), safe='')}"


def _opened(platform: Platform, source: CatalogueSource, folder: Path, view: dict[str, Any]) -> FetchedCatalogue:
    document = canonical_json(view.get("document"))
    # Verified before the file is asked for: what is fetched is what was signed.
    name = read_name(document, source.catalogue_key)
    data = platform.get_file(
        f"{_below(source)}/{name.version}/file",
        digest=name.digest,
        limit=MAX_CATALOGUE_BYTES,
        part=folder / f"{name.digest}.part",
    )
    return FetchedCatalogue(snapshot=open_catalogue(document, data, source.catalogue_key).snapshot, document=document)


def _below(source: CatalogueSource) -> str:
    return source.snapshots_url.removeprefix(source.platform_url)
