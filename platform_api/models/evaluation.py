"""A publisher's signed report of how well a model ranks held-out items, beside the live model on the same users.

The publisher computes it where histories may be looked at; the platform would have to rank its own buyers' purchases,
without their consent to that, to compute one. Two figures are compared only when they are of the same test users, so
the report gives both.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ProtocolError
from shared.signed_document import read_document, sign_document, verify_document

KIND = "zhiyin model evaluation 1"
MILLION = 1_000_000
MAX_REPORT_BYTES = 64 * 1024


class BadReport(ValueError):
    """A report that says nothing usable; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """NDCG@10 over all items, in millionths, of a model and of the live one ("" and 0 when there was none).

    test_set: what it was measured on, in words. num_users: test users.
    """

    model_sha256: str
    catalogue_digest: str
    test_set: str
    num_users: int
    ndcg_at_10: int
    live_model_sha256: str = ""
    live_ndcg_at_10: int = 0

    def to_text(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> "Evaluation":
        return cls(**json.loads(text))


def sign_report(report: Evaluation, signing_key: Ed25519PrivateKey) -> bytes:
    """The report as its publisher hands it in. Raises BadReport for one that would not be read."""
    fields = asdict(report)
    _checked(fields)
    return sign_document(KIND, fields, signing_key)


def read_report(data: bytes, publisher_public_key: str) -> Evaluation:
    """A report whose signature verifies under the key of the model's publisher. Raises BadReport."""
    try:
        if len(data) > MAX_REPORT_BYTES:
            raise BadReport(f"it has more than {MAX_REPORT_BYTES} bytes")
        fields, signature = read_document(KIND, data)
        verify_document(KIND, fields, signature, publisher_public_key, "the model's publisher")
    except ProtocolError as error:
        raise BadReport(str(error)) from None
    return _checked(fields)


def _checked(fields: dict[str, Any]) -> Evaluation:
    wanted = Evaluation.__dataclass_fields__
    if set(fields) != set(wanted):
        raise BadReport(f"fields must be {', '.join(sorted(wanted))}")
    for name, value in fields.items():
        if name in _NUMBERS and (type(value) is not int or not 0 <= value <= 10**9):
            raise BadReport(f"{name} must be a whole number from 0")
        if name not in _NUMBERS and (type(value) is not str or len(value) > 200 or not value.isprintable()):
            raise BadReport(f"{name} must be text of at most 200 printable characters")
    report = Evaluation(**fields)
    if max(report.ndcg_at_10, report.live_ndcg_at_10) > MILLION or report.num_users < 1:
        raise BadReport("NDCG lies between 0 and 1000000 millionths, and somebody must have been tested")
    return report


_NUMBERS = ("num_users", "ndcg_at_10", "live_ndcg_at_10")
