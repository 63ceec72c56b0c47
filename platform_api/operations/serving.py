"""The service as a process: a socket, and a web server that ends what it began before it ends itself."""

import signal
import socket
from dataclasses import dataclass

import structlog
import uvicorn
from starlette.types import ASGIApp

from platform_api.database import Database
from platform_api.logs import configure_logs
from platform_api.schema import MIGRATE, standing
from platform_api.settings import Settings
from shared.errors import DeploymentError, PortInUse, ProcessFailed

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Where the service listens.

    trusted_proxies: addresses or networks, separated by commas, whose X-Forwarded-For is believed; "" for none.
    grace_seconds: how long requests in flight may take once the process was asked to end.
    """

    host: str = LOOPBACK
    port: int = 8000
    trusted_proxies: str = ""
    grace_seconds: int = 30


def require_migrated(database: Database) -> None:
    """Raises DeploymentError that names the pending migrations and the command."""
    pending = standing(database).pending
    if pending:
        names = ", ".join(f"{step.revision} ({step.title})" for step in pending)
        raise DeploymentError(f"migrations are pending: {names}; run: {MIGRATE}")


def serve(settings: Settings, listening: Listening) -> None:
    """Serve until SIGTERM or SIGINT: no more requests are taken, those in flight are answered, the database is closed.

    Raises PortInUse and DeploymentError.
    """
    # Here, not above: the sandbox is served from here too, and needs no feature of the marketplace.
    from platform_api.app import create_app

    with bound(listening.host, listening.port) as listener:
        configure_logs(settings.log_level)
        server = web_server(create_app(settings), listening)
        host, port = listener.getsockname()[:2]
        structlog.get_logger("platform").info("listening", host=host, port=port)
        run_until_asked(server, listener)
        structlog.get_logger("platform").info("ended")


def web_server(app: ASGIApp, listening: Listening) -> uvicorn.Server:
    """The web server of an application: no log of addresses, no headers believed but those of trusted proxies."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        proxy_headers=bool(listening.trusted_proxies),
        forwarded_allow_ips=listening.trusted_proxies or None,
        timeout_graceful_shutdown=listening.grace_seconds,
    )
    return uvicorn.Server(config)


def run_until_asked(server: uvicorn.Server, listener: socket.socket) -> None:
    """Run a web server on a socket. Raises ProcessFailed if it did not start."""
    # The server passes the signal on once it has ended; by default that would end the process as if it had failed.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not server.started:
        raise ProcessFailed("the service did not start; the log above says why")


def bound(host: str, port: int) -> socket.socket:
    """A socket of that address that listens as soon as a server takes it. Raises PortInUse."""
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise PortInUse(f"{host}:{port} cannot be listened at ({error.strerror}); choose --host and --port") from None
    return listener
