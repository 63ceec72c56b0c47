"""Every error leaves as application/problem+json (RFC 9457): type, title, status, detail, instance, request_id.

`type` is the address of a page of this service that explains the problem: `PROBLEMS` is the whole list.
"""

import html
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"

# slug: (status, title, what it means and what to do)
PROBLEMS: dict[str, tuple[int, str, str]] = {
    "bad-request": (400, "The request cannot be read", "The detail names what is wrong with it."),
    "bad-cursor": (400, "The cursor is not one of ours", "Use `next_cursor` as it was given, with the same filters."),
    "idempotency-key-missing": (
        400,
        "Idempotency-Key is needed",
        "Send a header Idempotency-Key of 1 to 255 printable characters, a new one for each thing that is wanted, "
        "the same one when the same thing is tried again.",
    ),
    "webhook-refused": (400, "The message is not signed as agreed", "The signature or its time does not hold."),
    "not-authenticated": (401, "Who is calling is not known", "Send a valid access token as `Authorization: Bearer`."),
    "wrong-credentials": (401, "The credentials do not fit", "Check them; a log-in does not say who has an account."),
    "forbidden": (403, "This caller may not do this", "The detail names the role or scope that is needed."),
    "not-found": (404, "There is no such thing here", "It does not exist, or not for this caller."),
    "method-not-allowed": (405, "The method is not allowed here", "The header Allow lists those that are."),
    "not-acceptable": (406, "No acceptable representation", "Accept application/json."),
    "conflict": (409, "The request conflicts with what is there", "The detail says with what."),
    "payment-differs": (
        409,
        "What the provider states is not what was ordered",
        "Order, payment, amount and currency must all agree; nothing was changed.",
    ),
    "in-progress": (409, "The same request is being worked on", "Ask again with the same key in a moment."),
    "precondition-failed": (412, "The thing has changed since it was read", "Read it again; If-Match is its ETag."),
    "too-large": (413, "The request is too large", "The detail states the limit."),
    "unsupported-media-type": (415, "The kind of body is not supported", "Send application/json."),
    "range-not-satisfiable": (416, "The range lies outside the file", "Content-Range states its size."),
    "invalid": (422, "The request does not fit its description", "`errors` names each field and what it should be."),
    "key-reused": (422, "The key was used for another request", "Use a new Idempotency-Key for a new request."),
    "precondition-required": (428, "If-Match is needed", "Read the thing first and send its ETag as If-Match."),
    "too-many-requests": (429, "Too many requests", "Wait as many seconds as Retry-After states."),
    "internal": (500, "Something failed here", "It is logged under the request id; nothing was half done."),
    "provider-unavailable": (
        503,
        "The payment provider does not answer",
        "Try again with the same Idempotency-Key: what was begun goes on, and nothing is paid twice.",
    ),
    "unavailable": (503, "Not ready to serve", "Try again later."),
}


class ProblemBody(BaseModel):
    """The body of every error."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(examples=["http://127.0.0.1:8000/problems/not-found"])
    title: str = Field(examples=["There is no such thing here"])
    status: int = Field(examples=[404])
    detail: str | None = Field(default=None, examples=["no product prd_0 is on sale"])
    instance: str | None = Field(default=None, examples=["/api/v1/products/prd_0"])
    request_id: str | None = Field(default=None, examples=["req_2z"])


class Problem(Exception):
    """Raised anywhere below a route; becomes the answer. The transaction of the request is rolled back."""

    def __init__(
        self, slug: str, detail: str | None = None, *, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail or slug)
        self.slug, self.detail, self.headers, self.extra = slug, detail, dict(headers or {}), extra
        self.status = PROBLEMS[slug][0]


def install_problems(app: FastAPI) -> None:
    """Handlers for everything that is raised on purpose; the rest is `Observed`'s."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


def explanation(slug: str) -> HTMLResponse:
    """The page that `type` points at. Raises Problem (404)."""
    if slug not in PROBLEMS:
        raise Problem("not-found", "no such kind of problem")
    status, title, meaning = PROBLEMS[slug]
    return HTMLResponse(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<h1>{html.escape(title)}</h1><p>Status {status}. {html.escape(meaning)}</p>"
    )


def problem_response(
    request: Request,
    slug: str,
    detail: str | None = None,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> JSONResponse:
    """The answer for a problem."""
    stated, title, _ = PROBLEMS[slug]
    body = {
        "type": f"{request.app.state.settings.public_url}/problems/{slug}",
        "title": title,
        "status": status or stated,
        "detail": detail,
        "instance": request.url.path,
        "request_id": getattr(request.state, "request_id", None),
        **extra,
    }
    return JSONResponse(
        {name: value for name, value in body.items() if value is not None},
        status_code=status or stated,
        media_type=MEDIA_TYPE,
        headers=dict(headers or {}),
    )


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(request, error.slug, error.detail, headers=error.headers, **error.extra)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug = next((name for name, (status, _, _) in PROBLEMS.items() if status == error.status_code), "bad-request")
    plain = HTTPStatus(error.status_code).phrase
    detail = None if error.detail == plain else str(error.detail)
    return problem_response(request, slug, detail, status=error.status_code, headers=error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    # What was sent stays out of the answer: it may be a password.
    assert isinstance(error, RequestValidationError)
    errors = [
        {"field": ".".join(str(part) for part in entry["loc"]), "message": entry["msg"], "code": entry["type"]}
        for entry in error.errors()
    ]
    fields = ", ".join(entry["field"] for entry in errors[:3])
    return problem_response(request, "invalid", f"see errors: {fields}", errors=errors)
