"""The parts of a posted candidate, read after the caller is known to be allowed: multipart, two files or three."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import UploadFile

from platform_api.problems import Problem

MAX_MANIFEST_BYTES = 256 * 1024
# What the parts' headers and a report may add.
OVERHEAD_BYTES = MAX_MANIFEST_BYTES + 128 * 1024
PARTS = ("manifest", "model", "evaluation")


@dataclass(frozen=True, kw_only=True)
class CandidateParts:
    """Bytes as posted. evaluation: None when there was no such part."""

    manifest: bytes
    model: bytes
    evaluation: bytes | None


def described(access: dict[str, Any]) -> dict[str, Any]:
    """A route's access arguments with the description of this body, which the framework does not see."""
    files = {name: {"type": "string", "format": "binary"} for name in PARTS}
    schema = {"type": "object", "properties": files, "required": ["manifest", "model"]}
    body = {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    return {**access, "openapi_extra": {**access["openapi_extra"], "requestBody": body}}


async def _parts(request: Request) -> CandidateParts:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Problem("unsupported-media-type", "send multipart/form-data with the parts manifest and model")
    found: dict[str, bytes] = {}
    async with request.form(max_files=len(PARTS), max_fields=0) as form:
        for name, part in form.multi_items():
            if name not in PARTS or name in found or not isinstance(part, UploadFile):
                raise Problem(
                    "invalid", "the parts are manifest, model and, if there is one, evaluation; all are files"
                )
            found[name] = await part.read()
    if not {"manifest", "model"} <= set(found):
        raise Problem("invalid", "the parts manifest and model are needed")
    if len(found["manifest"]) > MAX_MANIFEST_BYTES:
        raise Problem("too-large", f"a manifest may have {MAX_MANIFEST_BYTES} bytes")
    return CandidateParts(manifest=found["manifest"], model=found["model"], evaluation=found.get("evaluation"))


Parts = Annotated[CandidateParts, Depends(_parts)]
