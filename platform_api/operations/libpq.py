"""A database's URL as PostgreSQL's own programs take it: every parameter that libpq knows, and no secret in sight.

What is an argument of a program is read by every user of the machine, so passwords go through the environment or, where
libpq has no variable for them, through a service file of the owner's alone.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from platform_api.settings import PREFIX
from shared.errors import BadSetting

_SERVICE = "zhiyin"


def for_libpq(url: URL, private: Path) -> tuple[str, dict[str, str]]:
    """A connection string without secrets, and the environment that holds them. private: a folder for a service file.

    Raises BadSetting for what can be passed in no such way.
    """
    from psycopg.conninfo import make_conninfo
    from psycopg.pq import Conninfo

    # What the service itself connects with: several hosts, a socket's folder and the query are put together there.
    _, found = url.get_dialect()().create_connect_args(url)
    parameters = _as_text(found)
    options = {option.keyword.decode(): option.dispchar == b"*" for option in Conninfo.get_defaults()}
    # Parameters of the driver alone, as prepare_threshold is, mean nothing to other programs.
    known = {name: value for name, value in parameters.items() if name in options}
    secret = {name: value for name, value in known.items() if options[name]}
    environment = {"PGPASSWORD": secret.pop("password")} if "password" in secret else {}
    if secret:
        environment |= _service_file(secret, "service" in known, private)
    return make_conninfo(**{name: value for name, value in known.items() if not options[name]}), environment


def _as_text(found: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in found.items()}
    for name, value in texts.items():
        if any(ord(character) < 32 for character in value):
            raise BadSetting(f"{PREFIX}DATABASE_URL: {name} has a control character")
    return {name: value for name, value in texts.items() if value}


def _service_file(secret: Mapping[str, str], has_service: bool, private: Path) -> dict[str, str]:
    if has_service or os.environ.get("PGSERVICE"):
        raise BadSetting(f"{PREFIX}DATABASE_URL: move {', '.join(sorted(secret))} into the service file that is in use")
    path = private / "service.conf"
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(f"[{_SERVICE}]\n" + "".join(f"{name}={value}\n" for name, value in secret.items()))
    return {"PGSERVICEFILE": str(path), "PGSERVICE": _SERVICE}
