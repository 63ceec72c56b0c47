"""The service under load from another process: python -m benchmarks.platform_load [--seconds 10] [--connections 4]

A marketplace in SQLite, 10,000 products, 50,000 users and 500,000 orders, is made in a temporary folder (or made once,
and found again, in --folder), with a live model of all items in 64 dimensions. The service and the sandbox provider are
processes of their own; this one asks, each connection its next question when it has the answer to the last. What a
list costs is measured once more without HTTP, beside the bare top-k over the same factors.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from platform_api.access import Caller
from platform_api.accounts.tables import LoginFamily
from platform_api.app import create_app
from platform_api.clock import system_clock
from platform_api.consents.schemas import ConsentChange, NewPolicy
from platform_api.consents.service import change_consents, publish_policy
from platform_api.database import Database
from platform_api.joints import CatalogueOnSale, PaidHistories
from platform_api.models.evaluation import KIND
from platform_api.models.files import ArtifactStore
from platform_api.models.schemas import NewPublisher
from platform_api.models.service import add_version, judge, limits_of, open_upload, promote, register_publisher
from platform_api.operations.volume import Volume, seed_volume
from platform_api.recommendations.service import Wish, explained
from platform_api.schema import migrate
from platform_api.settings import PREFIX, Settings, load_settings
from platform_api.snapshots import queries as snapshots_kept
from platform_api.snapshots.service import PublishedSnapshots, make_snapshot
from platform_api.tokens import Claims, issue
from shared.accounting import PrivacyStatement, epsilon
from shared.artifact import Artifact, ArtifactFiles, seal_artifact
from shared.canonical import sha256_hex
from shared.catalogue import CatalogueSnapshot
from shared.mechanism import Gaussian
from shared.published import settings_and_tensors
from shared.ranking import FoldIn, RankingModel
from shared.signed_document import sign_document
from simulations.deployment.processes import free_ports

API = "/api/v1"
DIMENSIONS = 64
BUYERS = 500
_ZHIYIN = "from simulations.console import main; main()"
_NOISE = (Gaussian(noise_std=5.0, sensitivity=1.0),)
_QUERIES = ("数据分析", "python", "隐私", "机器学习 入门", "history of music", "设计")


def _user(number: int) -> str:
    return f"usr_{number:026d}"


def _login(number: int) -> str:
    return f"fam_{number:026d}"


def _settings(folder: Path, url: str = "http://127.0.0.1:8000", provider: str = "http://127.0.0.1:8400") -> Settings:
    return load_settings(
        {},
        database_url=f"sqlite:///{folder}/platform.db",
        secret_key="a key that serves this benchmark and nothing else",
        data_folder=str(folder / "data"),
        public_url=url,
        provider_url=provider,
        provider_key="benchmark",
        webhook_secret="whsec_YSBiZW5jaG1hcmsncyBzZWNyZXQh",
        access_token_seconds=86_400,
        writes_a_minute=10_000_000,
        logins_a_minute=10_000_000,
        log_level="error",
    )


def make_marketplace(folder: Path, volume: Volume, console: Console) -> None:
    """Tables, rows, a snapshot, a live model of random factors, and the consent of the first buyers."""
    settings = _settings(folder)
    settings.data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    database, now = Database(settings.database_url), datetime.now(UTC)
    migrate(database)
    with Progress(console=console) as bar:
        totals = {"people": volume.users, "products": volume.products, "orders": volume.orders}
        tasks = {what: bar.add_task(what, total=total) for what, total in totals.items()}
        seed_volume(database, volume, lambda what, rows: bar.advance(tasks[what], rows))
    make_snapshot(database, settings, now)
    _make_live(database, settings, now)
    with database.writing() as session:
        version = publish_policy(session, NewPolicy(text_zh="政策", text_en="Policy"), now).version
        for number in range(BUYERS):
            session.add(LoginFamily(id=_login(number), user_id=_user(number), started_at=now))
            wish = ConsentChange(purposes={"service-personalisation": True}, policy_version=version)
            change_consents(session, _user(number), wish, now)
    database.close()


def _make_live(database: Database, settings: Settings, now: datetime) -> None:
    snapshots, store = PublishedSnapshots(settings), ArtifactStore(settings.data_folder)
    key = Ed25519PrivateKey.generate()
    with database.reading() as session:
        row = snapshots_kept.latest(session)
        assert row is not None
        catalogue = snapshots.catalogue(session, row.digest)
    files = _sealed_model(catalogue, settings.recommender, key, now)
    fields = {
        "model_sha256": sha256_hex(files.model), "catalogue_digest": catalogue.digest, "test_set": "none",
        "num_users": 1_000, "ndcg_at_10": 50_000, "live_model_sha256": "", "live_ndcg_at_10": 0,
    }  # fmt: skip
    upload = open_upload(settings.recommender, files.manifest, files.model, sign_document(KIND, fields, key))
    by = Caller(kind="person", id=_user(0), roles=frozenset({"platform-operator"}), scopes=frozenset(), tenant_id="")
    with database.writing() as session:
        public = key.public_key().public_bytes_raw().hex()
        register_publisher(session, NewPublisher(name="benchmark", public_key=public), now)
        reasons = judge(session, snapshots, upload, limits_of(settings))
        version = add_version(session, store, upload, reasons, by, now)
        promote(session, snapshots, store, version, "live", limits_of(settings), by, now)


def _sealed_model(catalogue: CatalogueSnapshot, name: str, key: Ed25519PrivateKey, now: datetime) -> ArtifactFiles:
    factors = np.random.default_rng(20).normal(size=(catalogue.num_items, DIMENSIONS)).astype(np.float32)
    model = RankingModel(
        catalogue_digest=catalogue.digest, recipe="recon", readout="factors",
        popularity=np.arange(catalogue.num_items, 0, -1, dtype=np.float32),
        head=np.arange(catalogue.num_items, dtype=np.int32), fold_in=FoldIn(recency=0.5, text_weight=0.0),
        item_factors=factors / np.float32(DIMENSIONS**0.5),
    )  # fmt: skip
    settings, tensors = settings_and_tensors(model)
    privacy = PrivacyStatement(
        epsilon=epsilon(_NOISE, 1e-6), delta=1e-6, against="nobody", mechanisms=_NOISE, tuned_on_data=False
    )
    artifact = Artifact(
        name=name, version=1, created=int(now.timestamp()), recipe="recon", catalogue_digest=catalogue.digest,
        plan_digest=f"{1:064x}", settings=settings, privacy=privacy, tensors=tensors,
    )  # fmt: skip
    return seal_artifact(artifact, key)


@contextmanager
def processes(settings: Settings) -> Iterator[None]:
    """The service and the sandbox, by their own commands, until the end of the block."""
    plain = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in settings.model_dump().items()
        if value is not None
    }
    environment = {**os.environ, **{f"{PREFIX}{name.upper()}": value for name, value in plain.items()}}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command, url in (("serve", settings.public_url), ("sandbox", settings.provider_url)):
            argv = [sys.executable, "-c", _ZHIYIN, "platform", command, "--port", url.rsplit(":", 1)[1]]
            started.append(subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL))
        _wait_until_ready(settings.public_url)
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=60)


def _wait_until_ready(url: str) -> None:
    with httpx.Client(trust_env=False) as http:
        for _ in range(600):
            with suppress(httpx.HTTPError):
                if http.get(f"{url}/readyz").status_code == 200:
                    return
            time.sleep(0.1)
    raise TimeoutError("the service is not ready after a minute")


Ask = Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]


@dataclass(frozen=True)
class Measured:
    """Latencies in seconds of all that was answered as it should be, and how long that took."""

    seconds: list[float]
    took: float

    def row(self) -> tuple[str, ...]:
        p50, p99 = np.percentile(self.seconds, [50, 99]) * 1e3
        return f"{p50:.1f}", f"{p99:.1f}", f"{len(self.seconds) / self.took:.0f}"


async def under_load(url: str, ask: Ask, seconds: float, connections: int) -> Measured:
    """Each connection asks again as soon as it is answered. Raises RuntimeError for an answer that is none."""
    numbers, latencies = count(), list[float]()

    async def one(http: httpx.AsyncClient, until: float) -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            answer = await ask(http, next(numbers))
            latencies.append(time.perf_counter() - began)
            if answer.status_code not in (200, 201):
                raise RuntimeError(f"{answer.status_code}: {answer.text[:300]}")

    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        await asyncio.gather(*(one(http, time.perf_counter() + 1) for _ in range(connections)))
        latencies.clear()
        began = time.perf_counter()
        await asyncio.gather(*(one(http, began + seconds) for _ in range(connections)))
        return Measured(latencies, time.perf_counter() - began)


def questions(settings: Settings, volume: Volume) -> dict[str, Ask]:
    """What is asked, by name."""
    now, run = datetime.now(UTC), f"{time.time_ns():x}"
    tokens = [
        issue(settings, Claims(subject=_user(number), scopes=frozenset(), family=_login(number)), now)
        for number in range(BUYERS)
    ]

    def headers(number: int, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {tokens[number % BUYERS]}", **more}

    def order(http: httpx.AsyncClient, number: int) -> Awaitable[httpx.Response]:
        product = volume.products - 1 - number // BUYERS
        wish = {"lines": [{"product_id": f"prd_{product:026d}"}]}
        return http.post(f"{API}/orders", json=wish, headers=headers(number, **{"Idempotency-Key": f"{run}-{number}"}))

    return {
        "list of products": lambda http, n: http.get(f"{API}/products?limit=20"),
        "one product": lambda http, n: http.get(f"{API}/products/prd_{n % volume.products:026d}"),
        "search": lambda http, n: http.get(f"{API}/search", params={"q": _QUERIES[n % len(_QUERIES)], "limit": 20}),
        "recommendations, everybody's": lambda http, n: http.get(f"{API}/recommendations?k=10"),
        "recommendations, personal": lambda http, n: http.get(f"{API}/recommendations?k=10", headers=headers(n)),
        "order": order,
    }


def beside_top_k(settings: Settings, console: Console) -> None:
    """A personal list without HTTP, and the bare product and selection over the same factors."""
    state = create_app(settings).state
    with state.database.reading() as session:
        loaded = state.models.current(session, state.snapshots, settings.recommender)
    factors = loaded.model.item_factors
    histories, on_sale, wish = (
        PaidHistories(),
        CatalogueOnSale(system_clock),
        Wish(k=10, diversity=0, category=None, language="en"),
    )
    user = factors[0].copy()

    def bare(_: int) -> None:
        scores = factors @ user
        best = np.argpartition(scores, -10)[-10:]
        best[np.argsort(-scores[best])]

    def whole(number: int) -> None:
        with state.database.reading() as session:
            explained(session, loaded, histories, on_sale, _user(number), wish)

    def median_ms(task: Callable[[int], None]) -> float:
        times = []
        for number in range(210):
            began = time.perf_counter()
            task(number)
            times.append(time.perf_counter() - began)
        return float(np.median(times[10:])) * 1e3

    product, made = median_ms(bare), median_ms(whole)
    state.database.close()
    console.print(
        f"A personal list of 10 of {len(factors):,} items without HTTP: {made:.2f} ms (median), permission, history "
        f"and titles read from the database; the bare top-k over the same factors: {product:.2f} ms."
    )


def main(
    seconds: Annotated[float, typer.Option(min=1, help="For each question.")] = 10.0,
    connections: Annotated[int, typer.Option(min=1, help="At a time.")] = 4,
    folder: Annotated[Path | None, typer.Option(help="Make the marketplace here, or find it here.")] = None,
    products: int = 10_000,
    users: int = 50_000,
    orders: int = 500_000,
) -> None:
    """Measure the service under load."""
    console, volume = Console(), Volume(products=products, users=users, orders=orders)
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "platform.db").exists():
            began = time.perf_counter()
            make_marketplace(place, volume, console)
            console.print(f"Made in {time.perf_counter() - began:.0f} s")
        first, second = free_ports(2)
        settings = _settings(place, f"http://127.0.0.1:{first}", f"http://127.0.0.1:{second}")
        size = (place / "platform.db").stat().st_size / 1e6
        rows = f"{products:,} products, {users:,} users, {orders:,} orders"
        title = f"{rows}; SQLite, {size:,.0f} MB; {connections} connections"
        table = Table("question", "p50 ms", "p99 ms", "answers a second", title=title)
        with processes(settings):
            for name, ask in questions(settings, volume).items():
                table.add_row(name, *asyncio.run(under_load(settings.public_url, ask, seconds, connections)).row())
        console.print(table)
        beside_top_k(settings, console)


if __name__ == "__main__":
    typer.run(main)
