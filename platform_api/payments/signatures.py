"""Signed messages from the provider: Standard Webhooks (standardwebhooks.com), HMAC-SHA256 over id, time and body.

The library makes the signature; reading the headers, the clock and the comparison are done here: its own `verify`
takes no time as an argument, and answers malformed headers with whatever error its parsing meets.
"""

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from standardwebhooks import Webhook

from platform_api.problems import Problem

TOLERANCE = timedelta(minutes=5)
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TIME = re.compile(r"[0-9]{1,11}")


def verified(secrets: str, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """The id of a message that one of the secrets (with blanks between) has signed within TOLERANCE of now.

    headers: with names in lower case. Raises Problem: 400 for everything else, 503 while no secret is set.
    """
    keys = secrets.split()
    if not keys:
        raise Problem("unavailable", "no secret for the payment provider's messages is set")
    message_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not _ID.fullmatch(message_id) or not _TIME.fullmatch(stamp):
        raise Problem("webhook-refused", "webhook-id or webhook-timestamp are missing or malformed")
    sent_at = datetime.fromtimestamp(int(stamp), tz=UTC)
    if abs(now - sent_at) > TOLERANCE:
        raise Problem("webhook-refused", "the message was signed too long ago, or in the future")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Problem("webhook-refused", "the body is no UTF-8") from None
    given = [part.encode() for part in headers.get("webhook-signature", "").split(" ")]
    expected = [Webhook(key).sign(message_id, sent_at, text).encode() for key in keys]
    # Every pair is compared, whatever the first ones gave.
    if not any([hmac.compare_digest(one, other) for one in given for other in expected]):
        raise Problem("webhook-refused", "the signature does not hold")
    return message_id
