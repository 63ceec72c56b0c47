"""A client's states between the messages of topology P, and as bytes for a vault that nobody else can read.

**These bytes are secrets**: with them and the server's help a vector opens. The caller

- encrypts them at rest and deletes them when the round is over or given up;
- stores the new state durably *before* the message of its step leaves, in one transaction that checks
  `check_forward` against the state stored before. A client restarted from an older state could
  sign a second active set, and then both secrets of a neighbour could come out;
- never merges a state from a backup: a round whose state is lost is given up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from shared.canonical import canonical_json, strict_json
from shared.errors import IllegalTransition, MalformedFile, ZhiyinError
from shared.secagg.context import CONTEXT_BYTES
from shared.secagg.pairwise_messages import DIGEST_BYTES, Agreement, Bundle
from shared.secagg.pairwise_terms import PairwiseMinima, PairwiseTerms
from shared.secagg.secret import Secret
from shared.secagg.shamir import SHARE_BYTES

_FORMAT = b"zhiyin-pairwise-state-2\n"


@dataclass(frozen=True, kw_only=True, eq=False)
class Advertised:
    """After R0. num_tenants: on the roster; the number that may collude is a share of it."""

    ctx: bytes
    client: str
    terms: PairwiseTerms
    minima: PairwiseMinima
    num_tenants: int
    bundle: Bundle
    mask_secret: Secret
    seal_secret: Secret
    self_seed: Secret
    dealing_seed: Secret


@dataclass(frozen=True, kw_only=True, eq=False)
class Dealt:
    """After R1."""

    client: str
    minima: PairwiseMinima
    num_tenants: int
    agreement: Agreement = field(repr=False)
    mask_secret: Secret
    seal_secret: Secret
    self_seed: Secret

    @property
    def ctx(self) -> bytes:
        return self.agreement.ctx


@dataclass(frozen=True, kw_only=True, eq=False)
class Masked:
    """After R2: no secret of its own is left, only shares. held: neighbour -> share of its seed, share of its key."""

    client: str
    minima: PairwiseMinima
    num_tenants: int
    agreement: Agreement = field(repr=False)
    held: tuple[tuple[str, Secret], ...]

    @property
    def ctx(self) -> bytes:
        return self.agreement.ctx


@dataclass(frozen=True, kw_only=True, eq=False)
class Committed:
    """After R3: bound to one active set."""

    client: str
    minima: PairwiseMinima
    num_tenants: int
    agreement: Agreement = field(repr=False)
    held: tuple[tuple[str, Secret], ...]
    active: tuple[str, ...]

    @property
    def ctx(self) -> bytes:
        return self.agreement.ctx


@dataclass(frozen=True, kw_only=True)
class Finished:
    """After R4: nothing is left but the fact."""

    client: str
    ctx: bytes


ClientState = Advertised | Dealt | Masked | Committed | Finished
PHASES: tuple[type[Any], ...] = (Advertised, Dealt, Masked, Committed, Finished)
_NAMES = {phase.__name__.lower(): phase for phase in PHASES}


def check_forward(before: ClientState, after: ClientState) -> None:
    """Raise IllegalTransition unless `after` is one step on from `before`, for the same party in the same round.

    For the vault that keeps states: it replaces one by the other only if this passes, in one transaction.
    """
    steps = PHASES.index(type(after)) - PHASES.index(type(before))
    if steps != 1 or (before.client, before.ctx) != (after.client, after.ctx):
        raise IllegalTransition(
            f"{type(after).__name__.lower()} does not follow {type(before).__name__.lower()} in one round"
        )


def to_bytes(state: ClientState) -> bytes:
    """All of the state, secrets in the clear. Keep it private, and keep it before the message of its step is sent."""
    return _FORMAT + canonical_json({"phase": type(state).__name__.lower(), **_plain(state)})


def from_bytes(data: bytes) -> ClientState:
    """Inverse of `to_bytes`; raises MalformedFile for other bytes. No signature is verified again."""
    try:
        if not data.startswith(_FORMAT):
            raise ValueError("it is of another format")
        values = strict_json(data[len(_FORMAT) :])
        phase = _NAMES[values.pop("phase")]
        state: ClientState = phase(**{name: _READ[name](value) for name, value in values.items()})
        if to_bytes(state) != data:
            raise ValueError("it is not in canonical form")
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, ZhiyinError) as error:
        # Without the cause: its message may quote a secret.
        raise MalformedFile(f"a kept round cannot be read: {type(error).__name__}") from None
    return state


def _plain(state: ClientState) -> dict[str, Any]:
    return {each.name: _write(getattr(state, each.name)) for each in fields(state)}


def _write(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case Secret():
            return value.reveal().hex()
        case Bundle() | PairwiseTerms() | PairwiseMinima():
            return {name: _write(each) for name, each in vars(value).items()}
        case Agreement():
            bundles = [_write(bundle) for bundle in value.bundles.values()]
            return {"ctx": value.ctx.hex(), "root": value.root.hex(), "terms": _write(value.terms), "bundles": bundles}
        case tuple():
            return [_write(each) for each in value]
        case _:
            return value


def _bundle(value: Mapping[str, Any]) -> Bundle:
    names = ("ctx", "mask_key", "seal_key", "possession", "commitment", "signature")
    raw = {name: bytes.fromhex(value[name]) for name in names}
    return Bundle(**{**value, **raw})


def _agreement(value: Mapping[str, Any]) -> Agreement:
    bundles = [_bundle(bundle) for bundle in value["bundles"]]
    return Agreement(
        ctx=_sized(value["ctx"], CONTEXT_BYTES),
        root=_sized(value["root"], DIGEST_BYTES),
        terms=PairwiseTerms(**value["terms"]),
        bundles={bundle.client: bundle for bundle in bundles},
    )


def _sized(value: str, size: int) -> bytes:
    data = bytes.fromhex(value)
    if len(data) != size:
        raise ValueError(f"{size} bytes were expected")
    return data


def _secret(value: str) -> Secret:
    return Secret(_sized(value, 32))


_READ: dict[str, Any] = {
    "client": str,
    "ctx": lambda value: _sized(value, CONTEXT_BYTES),
    "terms": lambda value: PairwiseTerms(**value),
    "minima": lambda value: PairwiseMinima(**value),
    "num_tenants": int,
    "bundle": _bundle,
    "agreement": _agreement,
    "mask_secret": _secret,
    "seal_secret": _secret,
    "self_seed": _secret,
    "dealing_seed": _secret,
    "held": lambda value: tuple((name, Secret(_sized(both, 2 * SHARE_BYTES))) for name, both in value),
    "active": tuple,
}
