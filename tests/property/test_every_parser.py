"""Whatever bytes come, every reader of outside bytes returns or raises what it is said to, soon and in little memory.

The targets are those of `tests/fuzz`; there a fuzzer guided by coverage goes on for as long as one likes.
"""

import ast
import copy
import gzip
import json
import time
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.connectors import MAX_LINE_BYTES
from shared.canonical import canonical_json
from shared.errors import MalformedMessage
from shared.frame import Frame, pack_frame, unpack_frame
from tests.fuzz import run
from tests.fuzz.targets import TARGETS, Target, read_csv, read_gzip

PROJECT = Path(__file__).resolve().parent.parent.parent
QUICK = settings(
    max_examples=40, deadline=timedelta(seconds=3), suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
SEEDS = {target.name: target.seeds() for target in TARGETS}
ODD = [None, True, -1, 0, 2**53, 10**400, 1e308, -0.0, "", "x" * 2_000, "\ud800", [], [[]], {}, {"": None}]
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@each_target
def test_the_examples_it_starts_from(target: Target) -> None:
    for seed in SEEDS[target.name]:
        began = time.monotonic()
        target(seed)
        assert time.monotonic() - began < 2


@each_target
def test_the_first_example_is_a_good_one(target: Target) -> None:
    # Or a fuzzer would start from nothing that is read to its end; these three have a bad one on purpose.
    if target.name in ("seal", "shares", "manifest-fields"):
        with pytest.raises(target.errors):
            target.read(SEEDS[target.name][0])
    else:
        target.read(SEEDS[target.name][0])


@each_target
def test_random_bytes(target: Target) -> None:
    @QUICK
    @given(st.binary(max_size=200))
    def read(data: bytes) -> None:
        target(data)

    read()


@each_target
def test_examples_with_bytes_changed_left_out_and_put_in(target: Target) -> None:
    @QUICK
    @given(data=st.data())
    def read(data: Any) -> None:
        made = bytearray(data.draw(st.sampled_from(SEEDS[target.name])))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(made)))
            cut = data.draw(st.sampled_from([0, 1, 4, 100]))
            made[at : at + cut] = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from(SPLICES)))
        target(bytes(made))

    read()


SPLICES = [
    b"\xff" * 8,
    b"\x00" * 8,
    b"NaN",
    b"Infinity",
    b"1e999",
    b"[" * 3_000,
    b'"\\ud800"',
    b"9" * 5_000,
    b"\n",
    b"-",
]


@each_target
def test_examples_with_any_value_in_the_place_of_another(target: Target) -> None:
    readable = [each for seed in SEEDS[target.name][:60] if (each := opened(seed)) is not None]
    if not readable:
        assert target.name in ("tensors", "seal", "shares", "policy-file", "plan-file", "job-file", "csv", "csv-gz",
                               "ledger-marks", "flower-array")  # fmt: skip
        return

    @QUICK
    @given(data=st.data())
    def read(data: Any) -> None:
        good, close = data.draw(st.sampled_from(readable))
        value = json.loads(json.dumps(good))
        for _ in range(data.draw(st.integers(1, 2)) if places(value) else 0):
            container, key = data.draw(st.sampled_from(places(value)))
            container[key] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
        made = close(value)
        if made is not None:
            target(made)

    read()


def opened(seed: bytes) -> Any:
    """(JSON value, how to put it back), wherever in the seed the JSON is; None where there is none."""
    try:
        frame = unpack_frame(seed)
    except MalformedMessage:
        pass
    else:
        return dict(frame.header), lambda value: framed(frame, value)
    for start in (0, 1, 64, len(b"zhiyin-pairwise-state-1\n")):
        text, newline, rest = seed[start:].partition(b"\n")
        for json_text, after in ((seed[start:], b""), (text, newline + rest)):
            try:
                value = json.loads(json_text)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                head = seed[:start]
                return value, lambda value, head=head, after=after: written(head, value, after)
    return None


def framed(frame: Frame, value: Any) -> bytes | None:
    try:
        return pack_frame(Frame(kind=frame.kind, header=value, sections=frame.sections))
    except (MalformedMessage, TypeError, ValueError):
        return None


def written(head: bytes, value: Any, after: bytes) -> bytes | None:
    try:
        return head + canonical_json(value) + after
    except ValueError:
        return head + json.dumps(value).encode() + after


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every value inside."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *places(value[key]))]


def test_nothing_that_is_only_declared_is_allocated() -> None:
    tracemalloc.start()
    try:
        for target in TARGETS:
            for seed in SEEDS[target.name]:
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                target(seed)
                peak = tracemalloc.get_traced_memory()[1] - before
                assert peak < 8 * 2**20 + 200 * len(seed), (target.name, seed[:80])
    finally:
        tracemalloc.stop()


def test_a_packed_line_that_no_memory_holds_is_refused_and_not_held() -> None:
    bomb = gzip.compress(b"user,item\n" + b"u" * (4 * MAX_LINE_BYTES), mtime=0)
    target = next(each for each in TARGETS if each.name == "csv-gz")
    tracemalloc.start()
    try:
        with pytest.raises(target.errors, match="longer than"):
            read_gzip(bomb)
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_LINE_BYTES
    finally:
        tracemalloc.stop()
    with pytest.raises(target.errors, match="longer than"):
        read_csv(b"user,item\n" + b"u" * (MAX_LINE_BYTES + 1))


def test_a_target_that_raises_another_error_is_a_finding() -> None:
    def read(data: bytes) -> None:
        raise KeyError(data)

    with pytest.raises(KeyError):
        Target(name="planted", read=read, errors=(MalformedMessage,), seeds=lambda: [b""])(b"x")


def test_the_runner_tells_what_a_target_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Done:
        returncode = 77
        stdout = b"=== Uncaught Python exception: ===\nKeyError: 'x'\nstat::number_of_executed_units: 12\n"
        stderr = b"stat::peak_rss_mb:              50\n"

    monkeypatch.setattr(run.subprocess, "run", lambda *_, **__: Done())
    outcome = run.run("frame", [b"a", b"b"], 1, tmp_path)
    assert (outcome.seeds, outcome.executions, outcome.corpus, outcome.peak_mib) == (2, 12, 2, 50)
    assert outcome.finding == "an input raised another error: KeyError: 'x' (none was kept)"
    assert [each.read_bytes() for each in sorted((tmp_path / "frame" / "corpus").iterdir())] == [b"a", b"b"]


PARSING = {
    "loads": ("json", "tomllib"),
    "reader": ("csv",),
    "DictReader": ("csv",),
    "frombuffer": ("np",),
    "unpack": ("struct", "_START"),
    "load": (None,),
    "load_ssh_public_key": (None,),
    "strict_json": (None,),
}
# Each file that parses, and which target reads what it reads.
COVERED_BY = {
    "client/ledger.py": "rows under a hash chain; the marks beside them are a target",
    "client/cli.py": "plan JSON, target plan-json",
    "client/policy_file.py": "target policy-file",
    "client/connectors.py": "targets csv and csv-gz; Parquet is read by pyarrow",
    "client/fetching.py": "target fetched-manifest",
    "client/platform_http.py": "JSON objects of the platform: those that are used are documents with targets",
    "server/platform_http.py": "target platform-answer",
    "client/app.py": "makes the array that it sends; what it gets is target flower-array",
    "server/exchange.py": "as client/app.py",
    "server/cli.py": "the operator's own catalogue file, and manifests of its own registry",
    "server/settings.py": "targets job-file and plan-json",
    "server/checkpoint.py": "target checkpoint",
    "server/releases.py": "target releases",
    "server/plan_file.py": "target plan-file",
    "shared/artifact.py": "targets manifest, manifest-fields, tensors",
    "shared/canonical.py": "strict_json, which every target of a JSON document calls",
    "shared/catalogue.py": "target catalogue",
    "shared/node_key.py": "target enrolment",
    "shared/frame.py": "target frame",
    "shared/roster.py": "targets roster and roster-body",
    "shared/signed_document.py": "targets enrolment and register",
    "shared/wire_fields.py": "targets message and fields",
    "shared/secagg/pairwise_state.py": "target pairwise-state",
    "shared/secagg/ring.py": "lengths are checked against the plan before; test_secagg_attacks",
    "shared/secagg/prg.py": "a stream of its own",
    "shared/secagg/discrete_gaussian.py": "a stream of its own",
    "shared/secagg/skellam.py": "a stream of its own",
}


def test_every_file_that_parses_has_a_target() -> None:
    found = set()
    for folder in ("shared", "client", "server"):
        for path in (PROJECT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if any(parses(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)):
                found.add(str(path.relative_to(PROJECT)))
    assert found == set(COVERED_BY), "a file parses, and it is not said which target of tests/fuzz reads it"


def parses(called: ast.expr) -> bool:
    if isinstance(called, ast.Name):
        return None in PARSING.get(called.id, ())
    owner = called.value.id if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) else ""
    return isinstance(called, ast.Attribute) and owner in PARSING.get(called.attr, ())
