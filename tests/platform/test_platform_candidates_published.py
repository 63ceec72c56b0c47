"""From a finished job to a live model: measured, signed, handed in, judged, promoted, rolled back, and on record."""

import csv
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from platform_api.models.evaluation import BadReport, Evaluation, read_report, sign_report
from server.cli import server_app
from server.platform_http import PlatformServer, Refused
from server.publishing import publish, read_version
from server.releases import ReleaseLedger
from shared.errors import ArtifactRejected, BadSetting, DeploymentError, MalformedFile, ZhiyinError
from simulations.cli import sim_app
from tests.invitation_cast import DIGEST, ISSUER, NOW, PUBLISHER
from tests.platform_models import NUM_ITEMS, artifact, ranking
from tests.platform_served import Served, served, write_key
from tests.secagg_cast import public_hex, signing_key

RUNNER = CliRunner()
MODEL = "recommender"


class Side:
    """The aggregation side: a registry, a job's ledger, held-out histories and a program's credentials."""

    def __init__(self, place: Served, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.registry, self.state, self.key = folder / "registry", folder / "state", write_key(folder / "publisher.key")
        self.state.mkdir()
        self.catalogue = folder / "catalogue.bin"
        self.catalogue.write_bytes(place.snapshot.to_bytes())
        self.held_out = folder / "held_out.csv"
        self._write_histories()
        self.program = place.program("models:publish")

    def train(self, version: int, *, ledger: bool = True, **changes: Any) -> None:
        """As a job ends: a version in the registry, and what was spent for it in the ledger."""
        made = artifact(version, catalogue=self.place.snapshot, **changes)
        assert publish(self.registry, MODEL, lambda number: replace(made, version=number), PUBLISHER) == version
        if ledger:
            records = ReleaseLedger.open(self.state)
            about = {"job_id": f"job-{version}", "plan_digest": made.plan_digest, "time": NOW}
            records.append("attempt", step=0, attempt=0, **about)
            records.append("release", step=0, attempt=0, epsilon_so_far=made.privacy.epsilon, delta=1e-6, **about)
            records.append("published", model=MODEL, version=version, **about)

    def evaluate(self, version: int, live: int | None = None) -> Path:
        out = self.folder / f"report-{version}.json"
        beside = [] if live is None else ["--live", self.registry / MODEL / str(live)]
        ran(
            sim_app, "evaluate", self.registry / MODEL / str(version), "--catalogue", self.catalogue, "--held-out",
            self.held_out, "--signing-key", self.key, "--test-set", "a panel", "--out", out, *beside,
        )  # fmt: skip
        return out

    def hand_in(self, version: int, report: Path, **environment: str) -> dict[str, Any]:
        said = ran(
            server_app, "publish-candidate", MODEL, "--registry", self.registry, "--signing-key", self.key, "--state",
            self.state, "--evaluation", report, "--platform", self.place.url, "--client-id", self.program["id"],
            "--version", version, "--json",
            environment={"ZHIYIN_CLIENT_SECRET": self.program["client_secret"], **environment},
        )  # fmt: skip
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found

    def promote(self, version: int, to: str = "live") -> int:
        return int(self.place.operator.post(f"/models/{MODEL}/versions/{version}/promote", {"to": to}).status_code)

    def live(self) -> int:
        return int(self.place.shop.http.get(f"/api/v1/models/{MODEL}/live").json()["version"])

    def _write_histories(self) -> None:
        # Users who take items in turn, so that a model which was seen to know them can be told from one that does not.
        rng = np.random.default_rng(5)
        with self.held_out.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["user", "item", "timestamp"])
            for user in range(60):
                for time, item in enumerate(rng.permutation(NUM_ITEMS)[:5]):
                    writer.writerow([f"u{user}", self.place.snapshot.items[item].id, time])
            writer.writerow(["u0", "an item of no snapshot", 9])


def ran(app: Any, *arguments: object, environment: dict[str, str] | None = None) -> str:
    result = RUNNER.invoke(app, [str(each) for each in arguments], env=environment or {}, catch_exceptions=True)
    if isinstance(result.exception, ZhiyinError):
        assert "\n" not in str(result.exception)
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served"), model_max_loss=0.0) as found:
        yield found


@pytest.fixture(scope="module")
def side(place: Served, tmp_path_factory: pytest.TempPathFactory) -> Side:
    made = Side(place, tmp_path_factory.mktemp("aggregation"))
    made.train(1)
    assert made.hand_in(1, made.evaluate(1))["state"] == "candidate"
    assert made.promote(1) == 200
    return made


def test_a_models_way_from_a_job_to_shadow_to_live_and_back(side: Side) -> None:
    live_before = side.live()
    side.train(2, seed=1)  # the same tensors, so exactly as good
    entry = side.hand_in(2, side.evaluate(2, live=1))
    assert (entry["state"], entry["reasons"]) == ("candidate", [])
    report = entry["evaluation"]
    assert (report["num_users"], report["test_set"]) == (60, "a panel")
    assert report["ndcg_at_10"] == report["live_ndcg_at_10"] > 0
    assert side.promote(2, "shadow") == 200
    assert side.live() == live_before == 1
    assert side.promote(2) == 200
    assert side.live() == 2
    answer = side.place.operator.post(f"/models/{MODEL}/versions/2/rollback")
    assert answer.json()["version"] == side.live() == 1
    kinds = [event["kind"] for event in side.place.publisher.program.get(f"/models/{MODEL}/history").json()["items"]]
    assert kinds == ["posted", "promoted", "posted", "shadowed", "promoted", "rolled-back"]
    ledger = side.place.shop.http.get("/api/v1/privacy-ledger").json()["items"]
    assert [(release["model"], release["model_version"], release["refused"]) for release in ledger] == [
        (MODEL, 2, False), (MODEL, 1, False),
    ]  # fmt: skip
    assert ledger[1]["epsilon"] == pytest.approx(artifact(1).privacy.epsilon)
    assert MODEL in side.place.shop.http.get("/privacy").text


def test_a_worse_model_is_refused_with_its_figures_and_is_on_record(side: Side) -> None:
    # It ranks by popularity alone, and popularity says the opposite of what the histories hold: nothing.
    side.train(3, seed=3, tensors=_worse(side))
    report = side.evaluate(3, live=1)
    with pytest.raises(ArtifactRejected, match=r"the gate refused recommender version 3: worse: NDCG@10"):
        side.hand_in(3, report)
    assert side.promote(3) == 409
    assert side.live() == 1
    newest = side.place.shop.http.get("/api/v1/privacy-ledger").json()["items"][0]
    assert (newest["model_version"], newest["refused"]) == (3, True)


def test_without_the_live_models_figures_a_candidate_is_refused(side: Side) -> None:
    side.train(4, seed=1)
    with pytest.raises(ArtifactRejected, match="not-compared"):
        side.hand_in(4, side.evaluate(4))


def test_handing_in_again_changes_nothing(side: Side) -> None:
    report = side.folder / "report-1.json"
    events = len(side.place.publisher.program.get(f"/models/{MODEL}/history").json()["items"])
    first, second = side.hand_in(1, report), side.hand_in(1, report)
    assert first == second
    assert first["state"] in ("live", "retired")
    assert len(side.place.publisher.program.get(f"/models/{MODEL}/history").json()["items"]) == events


def test_a_statement_that_the_jobs_ledger_does_not_bear_out_leaves_nothing(side: Side, tmp_path: Path) -> None:
    other = Side(side.place, tmp_path)
    other.train(1, ledger=False)
    ReleaseLedger.open(other.state)
    report = other.evaluate(1)
    with pytest.raises(ArtifactRejected, match="does not say that recommender 1 was published"):
        other.hand_in(1, report)
    made = artifact(1, catalogue=side.place.snapshot)
    about = {"job_id": "job", "plan_digest": made.plan_digest, "time": NOW}
    records = ReleaseLedger.open(other.state)
    records.append("attempt", step=0, attempt=0, **about)
    records.append("release", step=0, attempt=0, epsilon_so_far=made.privacy.epsilon * 1.01, delta=1e-6, **about)
    records.append("published", model=MODEL, version=1, **about)
    with pytest.raises(ArtifactRejected, match="the ledger says 1 attempts and epsilon"):
        other.hand_in(1, report)
    path = other.state / "releases.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step":0', b'"step":1', 1))
    with pytest.raises(MalformedFile):
        other.hand_in(1, report)


def test_an_attempt_that_was_charged_and_is_not_in_the_statement_is_noticed(side: Side, tmp_path: Path) -> None:
    other = Side(side.place, tmp_path)
    other.train(1)
    made = artifact(1, catalogue=side.place.snapshot)
    ReleaseLedger.open(other.state).append(
        "attempt", step=0, attempt=1, job_id="job-1", plan_digest=made.plan_digest, time=NOW
    )
    with pytest.raises(ArtifactRejected, match="2 attempts"):
        other.hand_in(1, other.evaluate(1))


def test_secrets_stay_out_of_command_lines_and_a_wrong_one_is_told_plainly(side: Side) -> None:
    report = side.folder / "report-1.json"
    with pytest.raises(BadSetting, match="ZHIYIN_CLIENT_SECRET"):
        side.hand_in(1, report, ZHIYIN_CLIENT_SECRET="")
    with pytest.raises(DeploymentError, match="the log-in was refused") as caught:
        side.hand_in(1, report, ZHIYIN_CLIENT_SECRET="not the secret")
    assert "not the secret" not in str(caught.value)


def test_a_program_without_the_scope_publishes_nothing(side: Side) -> None:
    program = side.place.program("fl:join", tenant="a tenant that only joins")
    server = side.place.http()
    server.log_in_program(program["id"], program["client_secret"])
    with pytest.raises(Refused) as caught:
        server.publish_candidate(MODEL, read_version(side.registry / MODEL / "1"), None)
    assert caught.value.status == 403


def test_a_publisher_whom_the_platform_does_not_trust_is_turned_away(side: Side, tmp_path: Path) -> None:
    stranger = signing_key("stranger")
    made = artifact(9, catalogue=side.place.snapshot)
    publish(tmp_path, MODEL, lambda number: replace(made, version=number), stranger)
    server = side.place.http()
    server.log_in_program(side.program["id"], side.program["client_secret"])
    with pytest.raises(Refused) as caught:
        server.publish_candidate(MODEL, read_version(tmp_path / MODEL / "1"), None)
    assert caught.value.status == 422


def test_a_report_is_signed_by_the_publisher_and_read_under_no_other_key(side: Side) -> None:
    data = (side.folder / "report-1.json").read_bytes()
    report = read_report(data, public_hex(PUBLISHER))
    assert read_report(sign_report(report, PUBLISHER), public_hex(PUBLISHER)) == report
    for changed, key in (
        (data, public_hex(ISSUER)),
        (data.replace(b'"num_users": 60', b'"num_users": 61'), public_hex(PUBLISHER)),
    ):
        with pytest.raises(BadReport):
            read_report(changed, key)
    with pytest.raises(BadReport, match="millionths"):
        sign_report(replace(report, ndcg_at_10=1_000_001), PUBLISHER)
    assert isinstance(report, Evaluation)


def test_held_out_histories_that_measure_nothing_are_told(side: Side, tmp_path: Path) -> None:
    sound = side.held_out
    for text, message in (
        ("user,item\nu,x\n", "timestamp or position"),
        ("user,item,timestamp\nu,x,1\n", "no item of catalogue"),
        (f"user,item,timestamp\nu,{side.place.product_ids[0]},1\n", "nobody has two items"),
        (f"user,item,timestamp\nu,{side.place.product_ids[0]},soon\n", "line 2: column timestamp must be a number"),
    ):
        side.held_out = tmp_path / "bad.csv"
        side.held_out.write_text(text)
        with pytest.raises(ZhiyinError, match=message):
            side.evaluate(1)
    side.held_out = sound


def test_the_federation_is_described_from_what_the_issuer_signed(side: Side, tmp_path: Path) -> None:
    pem, out = tmp_path / "ca.crt", tmp_path / "federation.json"
    pem.write_text(json.loads((side.place.folder / "federation.json").read_text())["certificate"])
    options = (
        "--publisher-key",
        side.key,
        "--app-digest",
        DIGEST,
        "--superlink",
        "127.0.0.1:9092",
        "--certificate",
        pem,
    )
    roster = side.place.folder / "roster.bin"
    ran(server_app, "describe", "--roster", roster, "--issuer-key", public_hex(ISSUER), *options, "--out", out)
    assert json.loads(out.read_text()) == json.loads((side.place.folder / "federation.json").read_text())
    with pytest.raises(ZhiyinError):
        ran(server_app, "describe", "--roster", roster, "--issuer-key", "9" * 64, *options, "--out", tmp_path / "other")
    assert not (tmp_path / "other").exists()


class _Flaky:
    """Passes bytes on to a platform, but breaks the first connections off without an answer."""

    def __init__(self, url: str, broken: int) -> None:
        self.left, self.target = broken, int(url.rsplit(":", 1)[1])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            with near, socket.create_connection(("127.0.0.1", self.target)) as far:
                for source, sink in ((near, far), (far, near)):
                    source.settimeout(0.2)
                    try:
                        while piece := source.recv(65_536):
                            # The request is passed on whole; the first answers never come back.
                            if source is near or self.left <= 0:
                                sink.sendall(piece)
                    except TimeoutError:
                        continue
            self.left -= 1

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def test_an_answer_that_was_lost_is_asked_for_again_and_there_is_one_version(side: Side) -> None:
    side.train(5, seed=1)
    report = side.evaluate(5, live=1).read_bytes()
    token = side.place.http()
    token.log_in_program(side.program["id"], side.program["client_secret"])
    flaky = _Flaky(side.place.url, broken=1)
    pauses: list[float] = []
    server = PlatformServer(flaky.url, pause=pauses.append)
    server._token = token._token
    try:
        entry = server.publish_candidate(MODEL, read_version(side.registry / MODEL / "5"), report)
    finally:
        flaky.close()
    assert entry["state"] == "candidate"
    assert pauses == [0.5]
    events = side.place.publisher.program.get(f"/models/{MODEL}/history?limit=100").json()["items"]
    assert [event["kind"] for event in events if event["version"] == 5] == ["posted"]


def test_an_address_that_is_not_safe_is_refused(side: Side) -> None:
    for url in ("http://shop.example", "ftp://shop.example", "https://u:p@shop.example"):
        with pytest.raises(BadSetting):
            PlatformServer(url)


def _worse(side: Side) -> dict[str, Any]:
    from shared.published import settings_and_tensors

    model = ranking(side.place.snapshot, 1)
    last = {items[-1] for items in _histories(side).values()}
    popularity = np.array([0.0 if item.id in last else 1.0 for item in side.place.snapshot.items], dtype=np.float32)
    assert model.item_weights is not None
    weights = np.tile(popularity[:16], (16, 1))
    return settings_and_tensors(replace(model, popularity=popularity, item_weights=weights))[1]


def _histories(side: Side) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with side.held_out.open() as file:
        for row in csv.DictReader(file):
            found.setdefault(row["user"], []).append(row["item"])
    return found
