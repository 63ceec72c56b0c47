"""Asking a platform over HTTP: a pinned address, bounded answers, no redirects, and files that resume where they broke.

What comes back is not trusted for coming from there: callers verify signatures under keys that were pinned.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from shared.canonical import sha256_hex
from shared.errors import DeploymentError, MalformedMessage
from shared.invitation import is_loopback

TIMEOUT_SECONDS = 30.0
TRIES = 3
MAX_JSON_BYTES = 4 * 2**20
_CHUNK_BYTES = 256 * 1024


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """status: 200, 206 or 304. body: empty for 304."""

    status: int
    etag: str
    body: bytes


class Platform:
    """base: the platform's URL, as an invitation names it."""

    def __init__(self, base: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.base = base
        self._timeout_seconds = timeout_seconds
        # A proxy of the environment is used as anywhere, but never for this machine.
        proxies = [urllib.request.ProxyHandler({})] if is_loopback(base) else []
        self._opener = urllib.request.build_opener(_NoRedirects, *proxies)

    def get(self, path: str, *, limit: int = MAX_JSON_BYTES, etag: str = "") -> Answer:
        """What is at `path`. etag: of what is kept; the answer is 304 while that is the newest.

        Raises DeploymentError where the platform does not answer or says no, MalformedMessage beyond `limit` bytes.
        """
        try:
            response = self._open(path, {"If-None-Match": etag} if etag else {})
        except _NotModified:
            return Answer(status=304, etag=etag, body=b"")
        with response:
            try:
                body = _read(response, limit + 1)
            except _Broken as error:
                raise DeploymentError(f"{self.base}{path}: the connection broke; run the command again") from error
            if len(body) > limit:
                raise MalformedMessage(f"{self.base}{path}: the answer has more than {limit} bytes")
            return Answer(status=response.status, etag=response.headers.get("ETag", ""), body=body)

    def get_json(self, path: str) -> Any:
        """As `get`; MalformedMessage for what is no JSON object."""
        try:
            found = json.loads(self.get(path).body)
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(f"{self.base}{path}: the answer is no JSON") from error
        if not isinstance(found, dict):
            raise MalformedMessage(f"{self.base}{path}: the answer is no JSON object")
        return found

    def get_file(self, path: str, *, digest: str, limit: int, part: Path) -> bytes:
        """The file whose SHA-256 is `digest`, which is also its ETag. part: kept while the file is not whole.

        A connection that breaks is taken up where it broke, in this call or, after a crash, in the next one. Raises
        DeploymentError; MalformedMessage for a file that is larger than `limit` or another one.
        """
        for attempt in range(TRIES):
            try:
                self._fill(path, digest, limit, part)
                break
            except _Broken as error:
                if attempt == TRIES - 1:
                    raise DeploymentError(f"{self.base}{path}: the connection broke; run the command again") from error
        data = part.read_bytes()
        part.unlink()
        if sha256_hex(data) != digest:
            raise MalformedMessage(f"{self.base}{path}: the file is not the one that was signed, {digest[:12]}…")
        return data

    def _fill(self, path: str, digest: str, limit: int, part: Path) -> None:
        have = part.stat().st_size if part.exists() else 0
        # Under If-Range another file would come whole, and not be put behind the beginning of this one.
        wanted = {"Range": f"bytes={have}-", "If-Range": f'"{digest}"'} if have else {}
        try:
            response = self._open(path, wanted)
        except _OutOfRange:
            return  # it was whole already, and is checked next
        with response, part.open("ab" if response.status == 206 else "wb") as file:
            left = limit - file.tell() + 1
            while left > 0 and (piece := _read(response, min(_CHUNK_BYTES, left))):
                left -= file.write(piece)
        if left <= 0:
            part.unlink()
            raise MalformedMessage(f"{self.base}{path}: the file has more than {limit} bytes")

    def _open(self, path: str, headers: Mapping[str, str]) -> HTTPResponse:
        request = urllib.request.Request(self.base + path, headers=dict(headers))  # noqa: S310
        try:
            response: HTTPResponse = self._opener.open(request, timeout=self._timeout_seconds)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 304:
                    raise _NotModified from error
                if error.code == 416:
                    raise _OutOfRange from error
                raise DeploymentError(f"{self.base}{path}: {error.code} {_detail(error)}") from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise DeploymentError(f"{self.base}: the platform cannot be reached ({reason})") from error
        return response


class _Broken(Exception): ...


class _OutOfRange(Exception): ...


class _NotModified(Exception): ...


def _read(response: HTTPResponse, size: int) -> bytes:
    try:
        return response.read(size)
    except (OSError, HTTPException) as error:
        raise _Broken from error


def _detail(error: urllib.error.HTTPError) -> str:
    # A problem document says more than its status; anything else is not worth a terminal's trust.
    headers: Message = error.headers
    if headers.get_content_type() != "application/problem+json":
        return ""
    try:
        said = json.loads(error.read(64 * 1024))
        text = str(said.get("detail") or said.get("title") or "")
    except (OSError, ValueError, AttributeError, HTTPException):
        return ""
    return "".join(letter for letter in text[:300] if letter.isprintable())
