"""Short-lived access tokens: JWT, HS256, signed with a key that serves nothing else."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt

from platform_api.columns import new_id
from platform_api.problems import Problem
from platform_api.secrets_of import derived_key
from platform_api.settings import Settings

_AUDIENCE = "zhiyin-platform"


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a token says. subject: a user's or a client's id; family: the log-in that it stems from, "" for clients."""

    subject: str
    scopes: frozenset[str]
    family: str


def issue(settings: Settings, claims: Claims, now: datetime) -> str:
    """An access token that is good for `access_token_seconds` from now."""
    return jwt.encode(
        {
            "iss": settings.public_url,
            "aud": _AUDIENCE,
            "sub": claims.subject,
            "scope": " ".join(sorted(claims.scopes)),
            "fam": claims.family,
            "iat": int(now.timestamp()),
            "exp": int((now + timedelta(seconds=settings.access_token_seconds)).timestamp()),
            "jti": new_id("tok"),
        },
        derived_key(settings, "access token"),
        algorithm="HS256",
    )


def verify(settings: Settings, token: str, now: datetime) -> Claims:
    """Raises Problem (401) for a token that is not ours, damaged or out of time."""
    try:
        body = jwt.decode(
            token,
            derived_key(settings, "access token"),
            algorithms=["HS256"],
            audience=_AUDIENCE,
            issuer=settings.public_url,
            # Time is an argument, not the library's.
            options={"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "sub", "scope", "fam"]},
        )
    except jwt.InvalidTokenError:
        raise _refused("the access token is not valid") from None
    if now.timestamp() >= int(body["exp"]):
        raise _refused("the access token has expired; refresh it")
    return Claims(subject=body["sub"], scopes=frozenset(body["scope"].split()), family=body["fam"])


def _refused(detail: str) -> Problem:
    return Problem("not-authenticated", detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
