"""The description of the API: every operation states the problems it can answer with, as problem+json."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from platform_api.problems import MEDIA_TYPE, PROBLEMS, ProblemBody

_EVERYWHERE = (400, 401, 403, 404, 406, 413, 422, 429, 500, 503)
_ON_WRITES = (409, 412, 415, 428)


def install_openapi(app: FastAPI) -> None:
    """Replace FastAPI's description of errors by ours."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _describe(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schema["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    for path in schema["paths"].values():
        for method, operation in path.items():
            for status in (*_EVERYWHERE, *(_ON_WRITES if method != "get" else (304,))):
                operation["responses"].setdefault(str(status), _problem(status))
            operation["responses"]["422"] = _problem(422)
    return schema


def _problem(status: int) -> dict[str, Any]:
    if status == 304:
        return {"description": "Not modified"}
    titles = [title for stated, title, _ in PROBLEMS.values() if stated == status]
    return {
        "description": "; ".join(titles),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
