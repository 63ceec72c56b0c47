"""The sandbox payment provider as a process. It is no part of the marketplace, and imports next to nothing of it."""

import uvicorn

from platform_api.operations.serving import bound, run_until_asked
from platform_api.sandbox.provider import Sandbox, utc_now
from platform_api.sandbox.service import sandbox_app
from platform_api.settings import PREFIX, Settings
from shared.errors import BadSetting

_WEBHOOK = "/api/v1/webhooks/payments"


def serve_sandbox(
    settings: Settings, *, host: str, port: int, books: str, webhook_url: str = "", public_url: str = ""
) -> None:
    """Serve the sandbox until SIGTERM. Raises BadSetting, PortInUse."""
    secrets = settings.webhook_secret.get_secret_value().split()
    key = settings.provider_key.get_secret_value()
    for name, value in (("WEBHOOK_SECRET", secrets), ("PROVIDER_KEY", key)):
        if not value:
            raise BadSetting(f"{PREFIX}{name} is not set; the sandbox and the marketplace need the same one")
    with bound(host, port) as listener:
        sandbox = Sandbox(
            webhook_secret=secrets[0],
            api_key=key,
            clock=utc_now,
            path=books,
            public_url=public_url or settings.provider_url,
        )
        app = sandbox_app(sandbox, webhook_url or settings.public_url + _WEBHOOK)
        config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none", lifespan="on")
        run_until_asked(uvicorn.Server(config), listener)
