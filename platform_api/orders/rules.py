"""The states of an order, as one pure function of what the provider states about its payment.

Provider messages come early, late, twice and in any order, so a state is only ever left for one that the provider
cannot take back: a success outlives every failure, and a payment that the provider has cancelled cannot succeed.
"""

from typing import Final

OPEN: Final = frozenset({"pending", "failed"})  # failed: this attempt; another card may still be tried
PAID: Final = frozenset({"paid", "partly_refunded", "refunded"})
CLOSED: Final = frozenset({"cancelled", "expired"})
STATUSES: Final = OPEN | PAID | CLOSED


class Contradiction(Exception):
    """Two statements that cannot both be true: paid, and closed before."""


def advance(status: str, payment: str, *, expired: bool) -> str:
    """The status of an order after the provider stated the payment's status. Raises Contradiction.

    payment: waiting (any state that may still change), failed, succeeded or cancelled.
    """
    if status in PAID:
        if payment == "cancelled":
            raise Contradiction("a paid order whose payment is cancelled")
        return status
    if status in CLOSED:
        if payment == "succeeded":
            raise Contradiction("a closed order whose payment succeeded")
        return status
    if payment == "cancelled":
        return "expired" if expired else "cancelled"
    return {"succeeded": "paid", "failed": "failed"}.get(payment, status)


def refunded_status(total_minor: int, refunded_minor: int) -> str:
    """The status of a paid order of which so much has been given back."""
    if refunded_minor == 0:
        return "paid"
    return "refunded" if refunded_minor >= total_minor else "partly_refunded"


def share_of_fee(price_minor: int, fee_minor: int, before: tuple[int, int], amount_minor: int) -> int:
    """The part of the platform's fee in a refund of amount_minor. before: (amount, fee) of the refunds so far.

    Each refund brings the sum up to the rounded-down part of the whole, so the last one gives exactly the fee.
    """
    amount_before, fee_before = before
    due = fee_minor * (amount_before + amount_minor) // price_minor - fee_before
    return min(max(due, 0), amount_minor)
