"""The shop as a process of its own, on a database file and a provider's address: `python -m tests.money_process`.

Arguments as JSON: database_url, provider_url, port, later (seconds by which its clock is ahead).
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlmodel import SQLModel

from platform_api.accounts import service as accounts
from platform_api.app import create_app
from tests.money_cast import KEY, Rack, thing
from tests.platform_cast import settings_for


def main() -> None:
    told = json.loads(sys.argv[1])
    accounts.HASHER = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1),))
    rack = Rack()
    rack.put(*(thing(f"prd_{number}", 100 + number) for number in range(200)))
    settings = settings_for(
        told["database_url"],
        Path(told["folder"]),
        provider_url=told["provider_url"],
        provider_key=KEY,
        provider_timeout_seconds=5,
    )
    later = timedelta(seconds=told["later"])
    app = create_app(settings, clock=lambda: datetime.now(UTC) + later, shelf=rack)
    SQLModel.metadata.create_all(app.state.database.engine)
    uvicorn.run(app, host="127.0.0.1", port=told["port"], log_level="error", ws="none")


if __name__ == "__main__":
    main()
