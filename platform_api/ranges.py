"""Parts of files (RFC 9110, sec. 14) with strong ETags: what a client needs to fetch a large artifact and resume."""

import re
from collections.abc import Iterator
from pathlib import Path

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from platform_api.etags import matches
from platform_api.problems import Problem

_CHUNK = 256 * 1024
_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def file_response(request: Request, path: Path, *, etag: str, media_type: str, cache: str) -> Response:
    """The file, a part of it (206), or 304. Raises Problem 416, and 503 where the file is not there.

    Several ranges at once, and a range with an If-Range of another ETag, get the whole file, as the RFC allows.
    """
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": cache}
    if matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    try:
        size = path.stat().st_size
        file = path.open("rb")
    except OSError:
        raise Problem("unavailable", "the file cannot be read at present") from None
    try:
        wanted = _wanted(request, etag, size)
    except Problem:
        file.close()
        raise
    start, stop = wanted or (0, size)
    headers["Content-Length"] = str(stop - start)
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"

    def pieces() -> Iterator[bytes]:
        with file:
            file.seek(start)
            left = stop - start
            while left > 0 and (piece := file.read(min(_CHUNK, left))):
                left -= len(piece)
                yield piece

    return StreamingResponse(pieces(), status_code=206 if wanted else 200, media_type=media_type, headers=headers)


def _wanted(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    # [start, stop) of the part, None for the whole.
    found = _ONE_RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if found is None or found.groups() == ("", "") or request.headers.get("if-range", etag) != etag:
        return None
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if first and last and int(last) < int(first):
        return None  # not a range at all, and what is none is ignored
    if start >= size:
        raise Problem(
            "range-not-satisfiable", f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, stop
