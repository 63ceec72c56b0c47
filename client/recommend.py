"""Recommendations for one local user: a verified model, the local history, and nothing that leaves the machine."""

import os
import secrets
import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from client.durable_files import make_folder, sync_folder, write_file
from client.home import SIGNED_CATALOGUE_FILE, ClientHome
from client.joining import joined
from shared.artifact import MANIFEST_FILE, MODEL_FILE, Artifact, ArtifactFiles, open_artifact
from shared.errors import ArtifactRejected, BadSetting
from shared.published import ranking_model
from shared.ranking import Recommendation, is_heard_of, recommend
from shared.signed_catalogue import read_name

_CURRENT = "current"


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """One line of a list, in words. because_of: title of the history's item that spoke for it, empty if none did."""

    item_id: str
    title: str
    score: float
    reason: str
    because_of: str


def install_model(home: ClientHome, folder: Path) -> Artifact:
    """Verify the two files in `folder` and make them the home's model; the one before stays until that is done.

    Raises ArtifactRejected, CatalogueMismatch, or BadSetting if no publisher is pinned.
    """
    return install_files(home, _read_files(folder))


def install_files(home: ClientHome, files: ArtifactFiles) -> Artifact:
    """As `install_model`, for files that are not in a folder."""
    artifact = verified(home, files)
    home.catalogue.require(artifact.catalogue_digest, f"model {artifact.name} version {artifact.version}")
    ranking_model(artifact)
    name = f"{artifact.name}-{artifact.version}-{secrets.token_hex(4)}"
    target = home.models / name
    make_folder(target)
    write_file(target / MODEL_FILE, files.model)
    write_file(target / MANIFEST_FILE, files.manifest)
    sync_folder(home.models)
    write_file(home.models / _CURRENT, name.encode())
    for old in home.models.iterdir():
        if old.is_dir() and old.name != name:
            shutil.rmtree(old, ignore_errors=True)
    return artifact


def installed_files(home: ClientHome) -> ArtifactFiles | None:
    """The two files of the home's model as they lie there, unverified; None if none was installed."""
    if not (home.models / _CURRENT).is_file():
        return None
    name = (home.models / _CURRENT).read_text(encoding="utf-8")
    if os.path.basename(name) != name or name in ("", ".", ".."):
        raise ArtifactRejected(f"{home.models / _CURRENT}: it names no installed model; install the model again")
    return _read_files(home.models / name)


def installed_model(home: ClientHome) -> Artifact | None:
    """The home's model, verified anew; None if none was installed."""
    files = installed_files(home)
    return None if files is None else verified(home, files, catalogue_digest=home.catalogue.digest)


def suggest(home: ClientHome, user: str, k: int, *, newcomer: bool = False) -> list[Suggestion]:
    """The k best items for a user of the store, as a service with the same history and the same model lists them.

    newcomer: for somebody without a history; `user` says nothing then. Raises NoInteractions, ArtifactRejected,
    BadSetting.
    """
    if k < 1:
        raise BadSetting(f"-k must be at least 1, got {k}")
    artifact = installed_model(home)
    if artifact is None:
        raise BadSetting(
            f"{home.models}: no model is installed; run `zhiyin client install FOLDER`, or `zhiyin client fetch model`"
        )
    model = ranking_model(artifact)
    history = np.empty(0, dtype=np.int32) if newcomer else home.store.history(user, home.catalogue)
    unavailable = _unavailable(home)
    found = recommend(model, home.catalogue, history, k, exclude=unavailable)
    lines = [line for line in found if is_heard_of(model, line)]
    suggestions = [_in_words(home, line) for line in lines]
    hidden = {line.item for line in lines} | {int(item) for item in history} | set(unavailable)
    # Places of a snapshot are in the order in which items came on sale.
    newest = (item for item in reversed(range(home.catalogue.num_items)) if item not in hidden)
    return suggestions + [_new(home, item) for item in islice(newest, k - len(lines))]


def _unavailable(home: ClientHome) -> list[int]:
    # Items that keep their place in the snapshot and are on sale no more: only a signed snapshot says which.
    path, invitation = home.folder / SIGNED_CATALOGUE_FILE, joined(home.folder)
    if invitation is None or not path.is_file():
        return []
    name = read_name(path.read_bytes(), invitation.catalogue_key)
    if name.digest != home.catalogue.digest:  # a snapshot from elsewhere came after it
        return []
    return [home.catalogue.position(item) for item in sorted(name.unavailable)]


def _new(home: ClientHome, item: int) -> Suggestion:
    found = home.catalogue.items[item]
    return Suggestion(item_id=found.id, title=found.title, score=0.0, reason="newly on sale", because_of="")


def _in_words(home: ClientHome, line: Recommendation) -> Suggestion:
    items = home.catalogue.items
    because_of = "" if line.because_of is None else items[line.because_of].title
    reason = {
        "because_of_item": f"people who had “{because_of}” went on to this",
        "similar_text": f"its text is like that of “{because_of}”",
        "popular": "many people have it",
    }[line.reason]
    item = items[line.item]
    return Suggestion(item_id=item.id, title=item.title, score=line.score, reason=reason, because_of=because_of)


def verified(home: ClientHome, files: ArtifactFiles, catalogue_digest: str | None = None) -> Artifact:
    """The artifact under the pinned publisher key, for any catalogue unless one is given. Raises as `open_artifact`."""
    if not home.policy.publisher_public_key:
        raise BadSetting(
            f"{home.folder / 'policy.toml'}: publisher_public_key is empty, so no model can be trusted; set it"
        )
    key = bytes.fromhex(home.policy.publisher_public_key)
    return open_artifact(files, publisher_public_key=key, catalogue_digest=catalogue_digest)


def _read_files(folder: Path) -> ArtifactFiles:
    try:
        return ArtifactFiles(model=(folder / MODEL_FILE).read_bytes(), manifest=(folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise ArtifactRejected(f"{folder}: {MODEL_FILE} and {MANIFEST_FILE} are needed ({error.strerror})") from error
