"""Strong ETags. A route states one where it knows the revision; every other GET answer gets the digest of its body."""

import hashlib

from fastapi import Request, Response

from platform_api.problems import Problem


def revision_etag(identifier: str, revision: int) -> str:
    """The ETag of one thing at one revision."""
    return f'"{identifier}.{revision}"'


def state_etag(response: Response, etag: str) -> None:
    response.headers["ETag"] = etag


def require_match(request: Request, etag: str) -> None:
    """For a change: 428 without If-Match, 412 when it names another state than the present one."""
    given = request.headers.get("if-match")
    if given is None:
        raise Problem("precondition-required")
    if not matches(given, etag):
        raise Problem("precondition-failed", headers={"ETag": etag})


def matches(header: str, etag: str) -> bool:
    """Whether a list of ETags holds this one (RFC 9110, sec. 13.1); weak ones never match strongly."""
    given = [part.strip() for part in header.split(",")]
    return "*" in given or etag in given


def body_etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'
