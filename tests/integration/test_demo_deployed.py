"""The deployed demonstration: to its end, into a failure, into an interrupt; and nothing of it is left running."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client.home import ClientHome
from client.joining import joined
from client.recommend import installed_model
from server.platform_http import PlatformServer
from server.publishing import read_latest
from shared.artifact import ArtifactFiles, open_artifact
from shared.errors import ArtifactRejected, ProcessFailed
from shared.published import ranking_model
from shared.signed_catalogue import read_name
from simulations.demo.scenario import scenario_of
from simulations.demo.scoreboard import federated_row
from simulations.demo.shop import Shop
from simulations.demo.training import Published
from simulations.evaluate import chance
from simulations.marketplace import generate
from tests.integration.demo_runs import ROWS, SMALL, TENANTS, DemoRun, check_learner

IN_TRAINING = "server/jobs/cooccurrence/state/events.jsonl: step_asked"
# The peers are asked to sign which of them are in the sum: their vectors are with the server, their masks still on.
IN_MASKED_ROUND = "server/jobs/cooccurrence/state/events.jsonl: peers_asked"
MODELS = {
    "market-weights": "federated cooccurrence, weights",
    "market-factors": "federated cooccurrence, factors",
    "market-recon": "federated recon",
}
# The demonstration, platform and payment provider, two watchdogs, SuperLink, executor, three SuperNodes.
LEAST_FAMILY = 10


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What a run to the end gave, whose platform was kept until it was interrupted.

    crowd: its processes in the middle. missed: descendants then that bore no mark. kept: processes while it was kept.
    roles: what the platform said of each log-in that was printed, by who it is.
    """

    out: Path
    code: int
    output: str
    crowd: dict[int, str]
    missed: dict[int, str]
    kept: dict[int, str]
    roles: dict[str, list[str]]
    left: dict[int, str]

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "report.json").read_text(encoding="utf-8"))
        return found

    def home(self, tenant: str) -> ClientHome:
        return ClientHome.open(self.out / "parties" / tenant)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    out = tmp_path_factory.mktemp("deployed") / "out"
    with DemoRun(out, *SMALL, "--keep") as run:
        run.wait_for(IN_TRAINING)
        crowd, missed = run.family(), run.unmarked()
        while "mei@example.org" not in run.output.partition("Log-ins")[2]:
            assert run.running, run.output
            time.sleep(0.1)
        roles, kept = roles_of(run.output), run.family()
        os.kill(run.process.pid, signal.SIGINT)
        code = run.wait(timeout_seconds=60)
        yield Finished(
            out=out, code=code, output=run.output, crowd=crowd, missed=missed, kept=kept, roles=roles, left=run.family()
        )


def roles_of(output: str) -> dict[str, list[str]]:
    """Log in as everybody whom the demonstration named."""
    said = output.partition("The platform runs at ")[2]
    server, found = PlatformServer(said.split()[0]), {}
    for who, email, password in re.findall(r"^\W*([a-z][a-z -]+?)\W+(\S+@example\.org)[\s│]+(\S+)[\s│]*$", said, re.M):
        server.log_in_person(email, password)
        found[who] = server.ask("GET", "/me")["roles"]
    # The last of them is the learner.
    assert len(server.ask("GET", "/recommendations?k=10")["items"]) == 10
    return found


@pytest.mark.timeout(400)
def test_the_deployed_demonstration_ends_well_and_leaves_no_process_behind(finished: Finished) -> None:
    assert finished.code == 0, finished.output
    assert len(finished.crowd) >= LEAST_FAMILY
    assert finished.missed == {}, "every descendant is told by its mark, so that none can be left unseen"
    assert finished.left == {}


@pytest.mark.timeout(400)
def test_a_kept_platform_serves_its_log_ins_until_it_is_interrupted(finished: Finished) -> None:
    assert list(finished.roles) == ["platform operator", *(f"creator of {tenant}" for tenant in TENANTS), "learner"]
    for who, roles in finished.roles.items():
        assert ("platform-operator" in roles, "creator" in roles) == ("operator" in who, "creator" in who)
    assert len(finished.kept) == 4, "the demonstration, its watchdog, the platform and the payment provider"


@pytest.mark.timeout(400)
def test_the_report_of_a_deployed_run_has_every_row_with_its_fields(finished: Finished) -> None:
    report = finished.report
    assert report["deployed"]
    assert (report["users"], report["items"]) == (1000, 200)
    assert tuple(row["name"] for row in report["rows"]) == ROWS
    for row in report["rows"]:
        assert {"name", "recipe", "readout", "epsilon", "delta", "hr_at_10", "ndcg_at_10"} <= set(row)
        is_private = row["name"].startswith(("federated", "DP ")) or row["name"].endswith(" alone")
        if is_private and row["name"] != "content alone":
            assert row["epsilon"] == pytest.approx(2.0, rel=1e-3)
            assert row["epsilon"] <= 2
            assert row["delta"] == 1e-6
        else:
            assert row["epsilon"] is row["delta"] is None
        for metric in ("hr_at_10", "ndcg_at_10"):
            assert set(row[metric]) == {"mean", "sd"}
            assert 0 < row[metric]["mean"] < 1
        assert row["hr_at_10"]["mean"] > row["ndcg_at_10"]["mean"]
    assert [entry["tenant"] for entry in report["tenants"]] == list(TENANTS)
    assert sum(entry["users"] for entry in report["tenants"]) == 1000
    page = (finished.out / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ROWS)


@pytest.mark.timeout(400)
def test_institutions_joined_by_invitation_and_a_learner_bought_and_was_listed_alike(finished: Finished) -> None:
    check_learner(finished.report)
    digest = finished.report["platform"]["catalogue_digest"]
    invitations = [joined(finished.out / "parties" / tenant) for tenant in TENANTS]
    assert [invitation.invited for invitation in invitations if invitation] == list(TENANTS)
    for tenant, invitation in zip(TENANTS, invitations, strict=True):
        home = finished.home(tenant)
        assert invitation is not None
        assert home.policy.issuer_public_key == invitation.issuer_key
        assert home.policy.app_digests == (invitation.app_digest,)
        assert home.catalogue.digest == digest
        assert read_name((home.folder / "catalogue.json").read_bytes(), invitation.catalogue_key).digest == digest
    # The payment provider's two messages, and nothing else, made the two orders paid.
    logs = (finished.out / "platform" / "logs" / "platform.log").read_text(encoding="utf-8")
    assert logs.count("/webhooks/payments") == 2
    assert "/complete" not in logs


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", MODELS)
def test_a_signed_model_opens_and_is_what_the_report_measured(finished: Finished, name: str) -> None:
    home, files = finished.home(TENANTS[0]), read_latest(finished.out / "registry", name)
    key = bytes.fromhex(home.policy.publisher_public_key)

    artifact = open_artifact(files, publisher_public_key=key, catalogue_digest=home.catalogue.digest)

    report = finished.report
    market = generate(seed=report["seed"], num_users=report["users"], num_items=report["items"])
    scenario = scenario_of(market, home.catalogue)
    published = Published(model=ranking_model(artifact), privacy=artifact.privacy)
    measured = federated_row(MODELS[name], [published], scenario).to_json()
    reported = next(row for row in report["rows"] if row["name"] == MODELS[name])
    assert {**reported, "hr_at_10": 0, "ndcg_at_10": 0} == {**measured, "hr_at_10": 0, "ndcg_at_10": 0}
    # One learner in a thousand, for sums that another number of threads adds up in another order.
    assert measured["hr_at_10"]["mean"] == pytest.approx(reported["hr_at_10"]["mean"], abs=0.0011)
    assert measured["hr_at_10"]["mean"] > 2 * chance(scenario.split.test).hr_at_10

    with pytest.raises(ArtifactRejected):
        open_artifact(files, publisher_public_key=bytes(32), catalogue_digest=home.catalogue.digest)
    changed = ArtifactFiles(model=files.model[:-1] + bytes([files.model[-1] ^ 1]), manifest=files.manifest)
    with pytest.raises(ArtifactRejected):
        open_artifact(changed, publisher_public_key=key, catalogue_digest=home.catalogue.digest)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("tenant", TENANTS)
def test_a_learner_of_each_institution_is_shown_titles_and_reasons(finished: Finished, tenant: str) -> None:
    home = finished.home(tenant)
    installed = installed_model(home)
    assert installed is not None
    assert installed.name == "market-weights"
    titles = {item.title for item in home.catalogue.items}
    shown = re.search(rf"^{tenant}-\d+, lately: (.+)\n((?:  \d\. .+\n)+)", finished.output, re.M)
    assert shown, finished.output
    assert set(shown[1].split("; ")) <= titles
    lines = [re.fullmatch(r"  (\d)\. (.+?)  (.+)", line) for line in shown[2].splitlines()]
    assert [line[1] for line in lines if line] == ["1", "2", "3", "4", "5"]
    listed = [line[2] for line in lines if line]
    assert len(set(listed)) == 5
    assert set(listed) <= titles
    for line in filter(None, lines):
        reason = re.fullmatch(r"people who had “(.+)” went on to this|its text is like that of “(.+)”", line[3])
        assert (reason and (reason[1] or reason[2]) in titles) or line[3] == "many people have it"


@pytest.mark.timeout(300)
def test_a_peer_lost_in_the_middle_of_a_round_ends_the_demonstration_with_one_message_and_no_process(
    tmp_path: Path,
) -> None:
    """Without helpers, after every masked vector was handed in and before the others may open their sum.

    What the demonstration then owes: one message that names the peer, nothing released or published, nothing running.
    """
    with DemoRun(tmp_path / "out", *SMALL, "--topology", "pairwise") as run:
        run.wait_for(IN_MASKED_ROUND)
        assert len(run.family()) >= LEAST_FAMILY
        os.kill(run.node(TENANTS[0]), signal.SIGKILL)
        code = run.wait(timeout_seconds=60)
        left, output = run.family(), run.output
    assert code == 6, output
    assert left == {}
    assert "Traceback" not in output
    told = [line for line in output.splitlines() if line.startswith("zhiyin: ")]
    log = run.out / "flower" / "logs" / f"node-{TENANTS[0]}.log"
    assert told == [f"zhiyin: node-{TENANTS[0]} ended with code -9 in the middle; see {log}"]
    assert output.rstrip().endswith(told[0])
    assert log.is_file()
    job = run.out / "server" / "jobs" / "cooccurrence"
    plan = json.loads((job / "plan.json").read_text(encoding="utf-8"))
    assert (plan["topology"], plan["helpers"]) == ("pairwise", [])
    events = [json.loads(line) for line in (job / "state" / "events.jsonl").read_text(encoding="ascii").splitlines()]
    assert {event["party"] for event in events if event["event"] == "contribution"} == set(TENANTS)
    assert not {"step_released", "published"} & {event["event"] for event in events}
    assert not (run.out / "report.json").exists(), "figures of a run that failed are no figures"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("number", "moment", "least"),
    [
        (signal.SIGINT, f"flower/logs/node-{TENANTS[-1]}.log", LEAST_FAMILY),
        (signal.SIGTERM, "platform/logs/payments.log", 3),
    ],
    ids=["ctrl-c while nodes start", "termination while the platform starts"],
)
def test_an_interrupted_deployment_leaves_no_process_behind(
    tmp_path: Path, number: signal.Signals, moment: str, least: int
) -> None:
    with DemoRun(tmp_path / "out", *SMALL) as run:
        run.wait_for(moment)
        crowd, missed = run.family(), run.unmarked()
        os.kill(run.process.pid, number)
        code = run.wait(timeout_seconds=60)
        left = run.family()
    assert code != 0
    assert len(crowd) >= least, "all that had been started was running when it was interrupted"
    assert missed == {}
    assert left == {}


@pytest.mark.timeout(300)
def test_without_its_supervision_a_killed_demonstration_would_leave_processes_that_are_seen(tmp_path: Path) -> None:
    """The negative control of every `left == {}` here: the watchdog is killed first, then the demonstration."""
    with DemoRun(tmp_path / "out", *SMALL) as run:
        run.wait_for("platform/logs/payments.log")
        (watchdog,) = [pid for pid, command in run.family().items() if "os.killpg(group, number)" in command]
        os.kill(watchdog, signal.SIGKILL)
        os.kill(run.process.pid, signal.SIGKILL)
        run.wait(timeout_seconds=20)
        left = run.family()
    assert left
    assert run.process.pid not in left
    assert run.family() == {}, "and the block ends them"


@pytest.mark.timeout(300)
def test_a_platform_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shop = Shop(folder, generate(seed=1, num_users=100, num_items=60), seed=1, model="market-weights")
    port = int(shop.url.rsplit(":", 1)[1])
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ProcessFailed, match="platform ended with code 6"),
        shop,
    ):
        pass
    assert "Traceback" not in (folder / "logs" / "platform.log").read_text(encoding="utf-8")


@pytest.mark.timeout(120)
def test_a_port_in_use_is_named_and_nothing_stays_behind(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with DemoRun(tmp_path / "out", *SMALL, "--port", str(port)) as run:
            code = run.wait(timeout_seconds=100)
            left, output = run.family(), run.output
    assert code == 6
    last = output.strip().splitlines()[-1]
    assert last.startswith("zhiyin: ")
    assert str(port) in last
    assert "Traceback" not in output
    assert left == {}
