"""The aggregation side's words with a platform: tokens and candidates. HTTPS, or HTTP on this machine.

Every request here may be repeated: a token is asked for anew, and a candidate is known by what it is.
"""

import json
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException, HTTPResponse
from typing import Any

from shared.artifact import ArtifactFiles
from shared.errors import DeploymentError
from shared.invitation import check_platform_url, is_loopback

API = "/api/v1"
TIMEOUT_SECONDS = 60.0
PAUSES = (0.5, 2.0, 8.0)
_MAX_ANSWER_BYTES = 4 * 2**20
_PASSING = (429, 500, 502, 503, 504)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Refused(DeploymentError):
    """The platform's definite no. status: of HTTP. said: the whole problem document, whose reasons the message has."""

    def __init__(self, status: int, said: Mapping[str, Any]) -> None:
        reasons = said.get("reasons") or said.get("errors") or []
        words = [
            str(said.get("detail") or said.get("title") or ""),
            *map(str, reasons if isinstance(reasons, list) else ()),
        ]
        text = "".join(letter for letter in "; ".join(words) if letter.isprintable())
        super().__init__(f"the platform said no ({status}): {text}")
        self.status, self.said = status, said


class PlatformServer:
    """base: the platform's URL. Raises BadSetting for one that is neither https nor of this machine."""

    def __init__(
        self, base: str, *, timeout_seconds: float = TIMEOUT_SECONDS, pause: Callable[[float], None] = time.sleep
    ) -> None:
        check_platform_url(base)
        self.base = base
        self._timeout_seconds, self._pause, self._token = timeout_seconds, pause, ""
        proxies = [urllib.request.ProxyHandler({})] if is_loopback(base) else []
        self._opener = urllib.request.build_opener(_NoRedirects, *proxies)

    def log_in_program(self, client_id: str, secret: str) -> None:
        """By client credentials. Raises DeploymentError, naming no secret."""
        self._log_in({"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret})

    def log_in_person(self, email: str, password: str) -> None:
        """By password, for what programs may not do."""
        self._log_in({"grant_type": "password", "username": email, "password": password})

    def publish_candidate(self, name: str, files: ArtifactFiles, evaluation: bytes | None) -> dict[str, Any]:
        """Hand in a signed artifact; the platform's entry, state `candidate`, or `refused` and why.

        Safe to repeat: the same artifact gives the same entry. Raises DeploymentError; Refused (422: nobody whom the
        platform trusts signed it; 409: the version is another artifact there).
        """
        parts = {"manifest": files.manifest, "model": files.model}
        if evaluation is not None:
            parts["evaluation"] = evaluation
        boundary = secrets.token_hex(16)
        body = b"".join(_part(boundary, part, data) for part, data in parts.items()) + f"--{boundary}--\r\n".encode()
        return self.ask(
            "POST", f"/models/{name}/candidates", body, f"multipart/form-data; boundary={boundary}", repeat=True
        )

    def ask_json(self, method: str, path: str, said: Any, *, repeat: bool = False) -> dict[str, Any]:
        """A request with a JSON body, logged in if `log_in…` was called."""
        return self.ask(method, path, json.dumps(said).encode(), "application/json", repeat=repeat)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str = "",
        *,
        repeat: bool = False,
        key: str = "",
    ) -> dict[str, Any]:
        """A request; its JSON answer.

        repeat: whether to try again where no answer comes, or one that passes. key: the Idempotency-Key with which
        the platform does it once. Raises DeploymentError, Refused.
        """
        headers = {"Content-Type": kind} if kind else {}
        if key:
            headers["Idempotency-Key"] = key
        for pause in PAUSES if repeat else ():
            try:
                return self._once(method, path, body, headers)
            except _Passing:
                self._pause(pause)
        try:
            return self._once(method, path, body, headers)
        except _Passing as error:
            raise DeploymentError(f"{self.base}: {error}") from error

    def _log_in(self, form: dict[str, str]) -> None:
        body = urllib.parse.urlencode(form).encode()
        try:
            said = self.ask("POST", "/tokens", body, "application/x-www-form-urlencoded", repeat=True)
        except Refused as error:
            raise DeploymentError(f"{self.base}: the log-in was refused: {error}") from None
        self._token = str(said.get("access_token", ""))

    def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, Any]:
        sent = {**headers, **({"Authorization": f"Bearer {self._token}"} if self._token else {})}
        request = urllib.request.Request(self.base + API + path, data=body, headers=sent, method=method)  # noqa: S310
        try:
            response: HTTPResponse = self._opener.open(request, timeout=self._timeout_seconds)
            with response:
                return _json(response.read(_MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                said = _json(error.read(_MAX_ANSWER_BYTES))
            if error.code in _PASSING:
                raise _Passing(f"{error.code} {error.reason}") from error
            raise Refused(error.code, said) from None
        except (OSError, HTTPException) as error:
            raise _Passing(f"the platform cannot be reached ({getattr(error, 'reason', None) or error})") from error


class _Passing(Exception): ...


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _part(boundary: str, name: str, data: bytes) -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
    return head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n"
