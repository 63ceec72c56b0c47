"""How well a published model ranks what people did next, in a report that its publisher signs for a platform's gate.

Whoever holds the histories measures: a file of users that no model was trained on, or whose last items none saw. The
live model is measured on the same users, because figures of different ones say nothing about each other.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from platform_api.models.evaluation import MILLION, Evaluation, sign_report
from shared.artifact import Artifact, ArtifactFiles, open_artifact
from shared.canonical import sha256_hex
from shared.catalogue import CatalogueSnapshot
from shared.errors import BadSetting, CatalogueMismatch, MalformedFile, NoInteractions
from shared.interactions import from_events
from shared.published import ranking_model
from shared.ranking import score_many
from simulations.evaluate import Cases, Figures, measure, select_users, without_last


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A verified model's figures. digest: SHA-256 of its tensors."""

    artifact: Artifact
    digest: str
    figures: Figures


def read_cases(path: Path, catalogue: CatalogueSnapshot) -> Cases:
    """Test cases of a CSV with the columns user, item and a rising timestamp or position: the last item is the target.

    Raises MalformedFile naming the line; NoInteractions where nobody has two items of the catalogue.
    """
    users: dict[str, int] = {}
    rows = [(users.setdefault(user, len(users)), item, order) for user, item, order in _rows(path, catalogue)]
    if not rows:
        raise NoInteractions(f"{path}: it holds no item of catalogue version {catalogue.version}")
    history, targets = without_last(
        from_events(
            users=np.array([row[0] for row in rows], dtype=np.int64),
            items=np.array([row[1] for row in rows], dtype=np.int64),
            order=np.array([row[2] for row in rows], dtype=np.float64),
            num_users=len(users),
            num_items=catalogue.num_items,
        )
    )
    tested = np.flatnonzero((targets >= 0) & (history.lengths > 0))
    if len(tested) == 0:
        raise NoInteractions(f"{path}: nobody has two items of catalogue version {catalogue.version}")
    return Cases(histories=select_users(history, tested), targets=targets[tested])


def measured(files: ArtifactFiles, publisher_public_key: bytes, catalogue: CatalogueSnapshot, cases: Cases) -> Measured:
    """Verify a model and measure it as a learner's client ranks. Raises ArtifactRejected, CatalogueMismatch."""
    artifact = open_artifact(files, publisher_public_key=publisher_public_key, catalogue_digest=catalogue.digest)
    model = ranking_model(artifact)
    figures = measure(lambda histories: score_many(model, catalogue.features, histories), cases)
    return Measured(artifact=artifact, digest=sha256_hex(files.model), figures=figures)


def report_of(
    model: Measured, live: Measured | None, cases: Cases, *, test_set: str, signing_key: Ed25519PrivateKey
) -> bytes:
    """The signed report of a model, beside the live one where there is one. Raises CatalogueMismatch, BadSetting."""
    if live is not None and live.artifact.name != model.artifact.name:
        raise BadSetting(f"the live model is {live.artifact.name}, the candidate {model.artifact.name}")
    if live is not None and live.artifact.catalogue_digest != model.artifact.catalogue_digest:
        raise CatalogueMismatch("the live model is for another catalogue; measure both on one that both rank")
    report = Evaluation(
        model_sha256=model.digest,
        catalogue_digest=model.artifact.catalogue_digest,
        test_set=test_set,
        num_users=len(cases.targets),
        ndcg_at_10=_millionths(model.figures),
        live_model_sha256="" if live is None else live.digest,
        live_ndcg_at_10=0 if live is None else _millionths(live.figures),
    )
    return sign_report(report, signing_key)


def _millionths(figures: Figures) -> int:
    return round(figures.ndcg_at_10 * MILLION)


def _rows(path: Path, catalogue: CatalogueSnapshot) -> Iterator[tuple[str, int, float]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            names = reader.fieldnames or []
            order = next((name for name in ("timestamp", "position") if name in names), None)
            if "user" not in names or "item" not in names or order is None:
                raise MalformedFile(f"{path}: it needs the columns user, item, and timestamp or position")
            for row in reader:
                if row["item"] in catalogue.index:
                    yield row["user"], catalogue.index[row["item"]], _number(path, reader.line_num, order, row[order])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MalformedFile(f"{path}: it cannot be read: {error}") from error


def _number(path: Path, line: int, column: str, text: str | None) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise MalformedFile(f"{path} line {line}: column {column} must be a number")
    return number
