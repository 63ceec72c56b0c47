"""Recommendations for one local user: a verified model, the local history, and nothing that leaves the machine."""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from client.durable_files import make_folder, sync_folder, write_file
from client.home import ClientHome
from shared.artifact import MANIFEST_FILE, MODEL_FILE, Artifact, ArtifactFiles, open_artifact
from shared.errors import ArtifactRejected, BadSetting
from shared.published import ranking_model
from shared.ranking import Recommendation, for_device, recommend

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
    files = _read_files(folder)
    artifact = _verified(home, files)
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


def installed_model(home: ClientHome) -> Artifact | None:
    """The home's model, verified anew; None if none was installed."""
    if not (home.models / _CURRENT).is_file():
        return None
    name = (home.models / _CURRENT).read_text(encoding="utf-8")
    if os.path.basename(name) != name or name in ("", ".", ".."):
        raise ArtifactRejected(f"{home.models / _CURRENT}: it names no installed model; install the model again")
    return _verified(home, _read_files(home.models / name))


def suggest(home: ClientHome, user: str, k: int) -> list[Suggestion]:
    """The k best items for a user of the store. Raises NoInteractions, ArtifactRejected, BadSetting."""
    if k < 1:
        raise BadSetting(f"-k must be at least 1, got {k}")
    artifact = installed_model(home)
    if artifact is None:
        raise BadSetting(f"{home.models}: no model is installed; run `zhiyin client install FOLDER`")
    model = ranking_model(artifact)
    if home.policy.declared_users == 1:  # a device holds each row's strongest entries; the signed files stay whole
        model = for_device(model)
    history = home.store.history(user, home.catalogue)
    return [_in_words(home, line) for line in recommend(model, home.catalogue, history, k)]


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


def _verified(home: ClientHome, files: ArtifactFiles) -> Artifact:
    if not home.policy.publisher_public_key:
        raise BadSetting(
            f"{home.folder / 'policy.toml'}: publisher_public_key is empty, so no model can be trusted; set it"
        )
    key = bytes.fromhex(home.policy.publisher_public_key)
    return open_artifact(files, publisher_public_key=key, catalogue_digest=home.catalogue.digest)


def _read_files(folder: Path) -> ArtifactFiles:
    try:
        return ArtifactFiles(model=(folder / MODEL_FILE).read_bytes(), manifest=(folder / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise ArtifactRejected(f"{folder}: {MODEL_FILE} and {MANIFEST_FILE} are needed ({error.strerror})") from error
