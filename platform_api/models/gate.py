"""What a model must pass before it may be live. Pure but for the questions it is handed answers to.

A reason is a code and a sentence; no reasons means that it passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from platform_api.models.evaluation import Evaluation
from shared import accounting
from shared.accounting import PrivacyStatement
from shared.artifact import Artifact
from shared.catalogue import CatalogueSnapshot
from shared.errors import ArtifactRejected, UnknownMechanism
from shared.published import ranking_model

# Relative; the statement and this service account by the same code, so only another order of summing can differ.
_ROUNDING = 1e-9
_DEFAULTS = PrivacyStatement.__dataclass_fields__


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a model is refused. code: for programs. detail: for people, with the numbers."""

    code: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the operator allows. margin: millionths of NDCG@10 by which a model may be worse than the live one."""

    max_epsilon: float
    max_delta: float
    margin: int


@dataclass(frozen=True, kw_only=True)
class LiveModel:
    """What a candidate is compared with."""

    model_sha256: str


def privacy_reasons(statement: PrivacyStatement, limits: Limits) -> list[Reason]:
    """Whether the statement is within the limits, in the platform's unit, and no better than its mechanisms give."""
    reasons = []
    if not 0 <= statement.epsilon <= limits.max_epsilon:
        reasons.append(
            Reason(code="epsilon-too-large", detail=f"{statement.epsilon:g}; at most {limits.max_epsilon:g}")
        )
    if not 0 < statement.delta <= limits.max_delta:
        return [*reasons, Reason(code="delta-too-large", detail=f"{statement.delta:g}; at most {limits.max_delta:g}")]
    for name in ("unit", "adjacency"):
        stated, wanted = getattr(statement, name), _DEFAULTS[name].default
        if stated != wanted:
            reasons.append(Reason(code=f"other-{name}", detail=f"it must be {wanted!r}"))
    if not statement.mechanisms:
        return [*reasons, Reason(code="no-mechanism", detail="the statement lists nothing that would make it true")]
    try:
        given = accounting.epsilon(statement.mechanisms, statement.delta)
    except (UnknownMechanism, ValueError, OverflowError) as error:
        return [*reasons, Reason(code="mechanism-unknown", detail=str(error))]
    if not given <= statement.epsilon * (1 + _ROUNDING):
        claim = f"it claims epsilon {statement.epsilon:.6g}, its mechanisms give {given:.6g}"
        reasons.append(Reason(code="privacy-understated", detail=f"{claim} at delta {statement.delta:g}"))
    return reasons


def ranking_reasons(artifact: Artifact, catalogue: CatalogueSnapshot | None) -> list[Reason]:
    """Whether the model ranks a catalogue that this service published; None: it knows none of that digest."""
    if catalogue is None:
        return [Reason(code="unknown-catalogue", detail=f"no snapshot {artifact.catalogue_digest[:12]}… was published")]
    try:
        model = ranking_model(artifact)
    except ArtifactRejected as error:
        return [Reason(code="cannot-rank", detail=str(error))]
    if model.num_items != catalogue.num_items:
        detail = f"it ranks {model.num_items} items, its catalogue has {catalogue.num_items}"
        return [Reason(code="cannot-rank", detail=detail)]
    return []


def metric_reasons(
    report: Evaluation | None, artifact_digests: tuple[str, str], live: LiveModel | None, limits: Limits
) -> list[Reason]:
    """Whether the model ranks about as well as the live one, by its publisher's report.

    artifact_digests: SHA-256 of the model's tensors, digest of its catalogue.
    """
    if report is None:
        return [Reason(code="no-evaluation", detail="a signed evaluation report is needed")]
    if (report.model_sha256, report.catalogue_digest) != artifact_digests:
        return [Reason(code="other-evaluation", detail="the report is about another model or catalogue")]
    if live is None:
        return []
    if report.live_model_sha256 != live.model_sha256:
        detail = f"the report must give the live model ({live.model_sha256[:12]}…) on the same test users"
        return [Reason(code="not-compared", detail=detail)]
    if report.ndcg_at_10 < report.live_ndcg_at_10 - limits.margin:
        detail = f"NDCG@10 {report.ndcg_at_10 / 1e6:.6f}, the live model's is {report.live_ndcg_at_10 / 1e6:.6f}"
        return [Reason(code="worse", detail=f"{detail}; the margin is {limits.margin / 1e6:.6f}")]
    return []


def as_json(reasons: Sequence[Reason]) -> list[dict[str, str]]:
    return [{"code": reason.code, "detail": reason.detail} for reason in reasons]
