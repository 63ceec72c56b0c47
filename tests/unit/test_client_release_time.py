"""Answers leave at a time fixed beforehand: a clock that only moves when somebody works or sleeps shows when."""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import nextafter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from hypothesis import given
from hypothesis import strategies as st

import client.answer
import client.app
from client.durable_files import write_file
from client.home import POLICY_FILE, ClientHome
from client.inspection import diagnose
from client.policy_file import render_policy
from client.preview import preview
from client.release_time import Timer, answer_on_time, leaves_at
from server.exchange import Exchange
from shared.errors import BadSetting
from shared.plan import plan_to_json, steps
from shared.wire import ContributionReply, ContributionRequest, Message, Refusal, decode, encode
from simulations.engine import InProcessGrid, run_in_process
from tests.federation_cast import Cast, make_cast
from tests.integration.test_pairwise_answers import Server
from tests.pairwise_federation_cast import PHASES, fives
from tests.unit.client_homes import make_policy

NOW, PERIOD, START = 1_800_000_000, 30.0, 1_000.25


@dataclass
class Stopwatch:
    """A clock that stands still but for `sleep` and `work`."""

    now: float = START
    slept: int = 0

    def sleep(self, seconds: float) -> None:
        # As an operating system may: a little short of what was asked for.
        self.now += seconds * 0.75 if seconds > 1e-6 else seconds
        self.slept += 1

    def work(self, seconds: float) -> None:
        self.now += seconds

    @property
    def timer(self) -> Timer:
        return Timer(clock=lambda: self.now, sleep=self.sleep)

    @property
    def passed(self) -> float:
        return self.now - START


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Cast:
    return make_cast(tmp_path_factory.mktemp("cast"), noise="helpers", policy_changes={"answer_seconds": PERIOD})


@pytest.fixture
def cast(original: Cast, tmp_path: Path) -> Cast:
    return copied(original, tmp_path / "cast")


@pytest.fixture
def watch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def summing(watch: Stopwatch, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Make the sum over the histories take so many seconds of the stopwatch."""
    honest = client.answer._values

    def takes(seconds: float) -> None:
        def slow(*given: Any) -> Any:
            watch.work(seconds)
            return honest(*given)

        monkeypatch.setattr(client.answer, "_values", slow)

    return takes


def copied(original: Cast, folder: Path) -> Cast:
    shutil.copytree(original.folder, folder)
    return replace(original, folder=folder, homes={name: folder / "homes" / name for name in original.homes})


def change_policy(home: ClientHome, **changes: Any) -> None:
    write_file(home.folder / POLICY_FILE, render_policy(replace(home.policy, **changes)).encode())


def question(cast: Cast, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "plan_json": plan_to_json(cast.plan), "step": 0, "attempt": 0, "inputs": {},
        "roster": (cast.folder / "server" / "roster.bin").read_bytes(),
    }  # fmt: skip
    return encode(ContributionRequest(**{**fields, **changes}))


def ask(cast: Cast, watch: Stopwatch, frame: bytes, *, party: str = "carl", waits: float = 600.0) -> Message:
    reply = answer_on_time(
        cast.home(party), frame, came_in=START, waits_seconds=waits, timer=watch.timer, now=NOW, random_bytes=os.urandom
    )
    return decode(reply)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 7.5, 29.999, 30.0])
def test_a_contribution_leaves_at_the_same_time_however_long_the_sum_took(
    cast: Cast, watch: Stopwatch, summing: Callable[[float], None], seconds: float
) -> None:
    summing(seconds)
    assert isinstance(ask(cast, watch, question(cast)), ContributionReply)
    assert watch.passed == PERIOD


@pytest.mark.parametrize(("seconds", "periods"), [(30.001, 2), (59.0, 2), (60.0, 2), (61.0, 3), (299.0, 10)])
def test_one_that_took_longer_leaves_at_the_next_multiple_and_the_log_says_so(
    cast: Cast,
    watch: Stopwatch,
    summing: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    periods: int,
) -> None:
    summing(seconds)
    with caplog.at_level(logging.WARNING, logger="zhiyin.client"):
        assert isinstance(ask(cast, watch, question(cast)), ContributionReply)
    assert watch.passed == periods * PERIOD
    assert "raise answer_seconds" in caplog.text


def test_switched_off_an_answer_leaves_as_soon_as_it_is_ready(
    cast: Cast, watch: Stopwatch, summing: Callable[[float], None]
) -> None:
    change_policy(cast.home("carl"), answer_seconds=0.0)
    summing(7.5)
    assert isinstance(ask(cast, watch, question(cast), waits=1.0), ContributionReply)
    assert (watch.passed, watch.slept) == (7.5, 0)


def test_a_refusal_over_the_histories_keeps_the_time_of_a_contribution(
    cast: Cast, watch: Stopwatch, summing: Callable[[float], None]
) -> None:
    change_policy(cast.home("carl"), declared_users=1)
    summing(4.0)
    said = ask(cast, watch, question(cast))
    assert isinstance(said, Refusal)
    assert said.error == "ZhiyinError"
    assert watch.passed == PERIOD


def test_refusals_that_needed_no_history_leave_at_once(cast: Cast, watch: Stopwatch) -> None:
    plan = {**plan_to_json(cast.plan), "min_users": 1}
    for frame in (b"nonsense", question(cast, roster=b"x"), question(cast, plan_json=plan), question(cast, step=9)):
        assert isinstance(ask(cast, watch, frame), Refusal)
    assert (watch.passed, watch.slept) == (0.0, 0)


def test_a_question_answered_before_is_refused_at_once(cast: Cast, watch: Stopwatch) -> None:
    ask(cast, watch, question(cast))
    before = watch.now
    said = ask(cast, watch, question(cast))
    assert isinstance(said, Refusal)
    assert said.error == "AlreadyAnswered"
    assert watch.now == before


@pytest.mark.parametrize(("waits", "answered"), [(60.0, True), (59.99, False), (1.0, False)])
def test_a_server_that_waits_too_short_is_refused_before_anything_is_charged(
    cast: Cast, watch: Stopwatch, waits: float, answered: bool
) -> None:
    said = ask(cast, watch, question(cast), waits=waits)
    releases = [entry for entry in cast.home("carl").ledger.entries() if entry.kind == "release"]
    assert len(releases) == answered
    if not answered:
        assert isinstance(said, Refusal)
        assert said.error == "PolicyViolation"
        assert "answer_seconds" in said.message
        assert "collect_seconds" in said.message
        assert watch.passed == 0.0


def test_of_a_pairwise_round_the_masked_vector_alone_waits(
    tmp_path: Path, watch: Stopwatch, summing: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    summing(2.5)
    waited: dict[str, set[float]] = {}

    def timed(server: Server, name: str, request: Any, *, now: int = NOW) -> Message:
        watch.now = START
        reply = ask(server.cast, watch, encode(request), party=name)
        waited.setdefault(type(request).__name__, set()).add(watch.passed)
        return reply

    monkeypatch.setattr(Server, "ask", timed)
    server = Server(fives(tmp_path, policy_changes={"answer_seconds": PERIOD})).run(*PHASES)
    assert isinstance(server.open().total.sum(), np.integer)
    assert waited == {**{kind.__name__: {0.0} for kind in PHASES.values()}, "MaskRequest": {PERIOD}}


@pytest.fixture
def flower_time(watch: Stopwatch, monkeypatch: pytest.MonkeyPatch) -> Stopwatch:
    class Time:
        monotonic = staticmethod(lambda: watch.now)
        sleep = staticmethod(watch.sleep)
        time = staticmethod(lambda: float(NOW))

    monkeypatch.setattr(client.app, "time", Time)
    return watch


def through_flower(cast: Cast, frame: bytes, seconds: float) -> Message:
    answers: list[Any] = []
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        exchange = Exchange(grid)
        (node,) = exchange.nodes(wanted=1, least=1, timeout_seconds=0)
        answers.extend(exchange.ask({node: frame}, group="g", timeout_seconds=seconds, most_bytes=2**20).values())

    config = {client.app.HOME_SETTING: str(cast.homes["carl"])}
    run_in_process(server_app, InProcessGrid(client.app.app, [config]), {})
    return decode(answers[0])


def test_the_time_to_open_the_home_counts_and_the_servers_own_waiting_time_is_what_is_checked(
    cast: Cast, flower_time: Stopwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = ClientHome.open

    def slowly(folder: Path) -> ClientHome:
        flower_time.work(11.0)
        return opens(folder)

    monkeypatch.setattr(ClientHome, "open", slowly)
    refused = through_flower(cast, question(cast), 59.0)
    assert isinstance(refused, Refusal)
    assert "waits 59 s" in refused.message
    flower_time.now = START
    assert isinstance(through_flower(cast, question(cast), 60.0), ContributionReply)
    assert flower_time.passed == PERIOD


def test_in_a_whole_job_contributions_wait_and_helpers_answers_do_not(
    tmp_path: Path, flower_time: Stopwatch, summing: Callable[[float], None]
) -> None:
    summing(1.5)
    cast = make_cast(
        tmp_path, noise="helpers", collect_seconds=60.0, policy_changes={"answer_seconds": PERIOD}
    )  # fmt: skip
    cast.run()
    # One after the other, for they share the stopwatch.
    assert flower_time.passed == len(cast.homes) * len(steps(cast.plan)) * PERIOD


def test_a_quotient_that_was_rounded_down_lets_nothing_leave_early() -> None:
    # 185.91 + 5 * 59.6 is a little below the time at which the answer is ready, and so is the quotient.
    assert leaves_at(185.91, 483.91, 59.6) >= 483.91


@given(
    came_in=st.floats(0, 1e6), worked=st.floats(0, 1e5), period=st.floats(0.05, 3_600)
)  # fmt: skip
def test_an_answer_leaves_at_the_first_multiple_that_is_not_too_early(
    came_in: float, worked: float, period: float
) -> None:
    ready = came_in + worked
    at = leaves_at(came_in, ready, period)
    periods = round((at - came_in) / period)
    assert periods >= 1
    assert at == came_in + periods * period
    assert at >= ready
    assert periods == 1 or came_in + (periods - 1) * period < nextafter(ready, -1) + 1e-9 * ready


def test_preview_and_doctor_tell_the_owner_what_the_time_tells(cast: Cast) -> None:
    home = cast.home("carl")
    assert any("30 seconds after" in line for line in preview(home, cast.plan).also_visible)
    assert "answer_seconds" not in {finding.check for finding in diagnose(home.folder, now=NOW)}
    change_policy(home, answer_seconds=0.0)
    assert any(
        "answer_seconds in policy.toml is 0" in line for line in preview(cast.home("carl"), cast.plan).also_visible
    )
    assert "answer_seconds" in {finding.check for finding in diagnose(home.folder, now=NOW)}


@pytest.mark.parametrize("seconds", [-0.1, 3_600.5, float("inf"), float("nan")])
def test_a_time_that_nobody_can_keep_is_refused(seconds: float) -> None:
    with pytest.raises(BadSetting, match="answer_seconds"):
        make_policy(answer_seconds=seconds)


def test_a_new_home_keeps_its_answers_back() -> None:
    assert make_policy().answer_seconds == PERIOD
