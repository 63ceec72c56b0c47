"""Nothing outside the clients' homes holds what is in them: every frame and file is searched, and a leak is found."""

import logging
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord

from client.contribution import solve_each
from client.tenant import tenant_values
from shared.errors import CapacityExceeded, DeploymentError, UnknownItem
from shared.interactions import Interactions, from_events
from shared.secagg import ring
from tests.federation_cast import COOCCURRENCE, NODES, NUM_ITEMS, RECON, USERS_EACH, Cast, history_of, make_cast

CANARY = "canary-4f1d-learner"


class Watch:
    """Everything private that was computed, and everything that left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.needles: dict[str, bytes] = {"a user's name": CANARY.encode()}
        self.frames: list[bytes] = []

        def watched_solve(recipe, item_factors, history: Interactions):
            factors = solve_each(recipe, item_factors, history)
            for user in np.flatnonzero(np.any(factors != 0, axis=1)):
                self.needles[f"user factors {len(self.needles)}"] = factors[user].tobytes()
                self.needles[f"user factors, short {len(self.needles)}"] = factors[user].astype(np.float32).tobytes()
            return factors

        def watched_values(plan, step, inputs, history, *, secret_seed):
            values = tenant_values(plan, step, inputs, history, secret_seed=secret_seed)
            self.needles[f"a tenant's own sum {len(self.needles)}"] = values.tobytes()
            self.needles[f"a tenant's own sum, packed {len(self.needles)}"] = ring.pack(
                ring.encode(values, plan.bits), plan.bits
            )
            return values

        monkeypatch.setattr("client.tenant.solve_each", watched_solve)
        monkeypatch.setattr("client.answer.tenant_values", watched_values)

    def leaks(self, cast: Cast, *, more: bytes = b"") -> set[str]:
        """Which needles are in a frame or in a file outside the homes."""
        files = [path for path in cast.folder.rglob("*") if path.is_file() and not _inside(path, cast)]
        assert any(path.name == "events.jsonl" for path in files)
        hay = [*self.frames, *(path.read_bytes() for path in files), more]
        return {name for name, needle in self.needles.items() if any(needle in each for each in hay)}


def _inside(path: Path, cast: Cast) -> bool:
    return any(home in path.parents for home in cast.homes.values())


def crowded(recipe, tmp_path: Path, **options) -> Cast:
    names = [CANARY, *(f"{CANARY}-{n}" for n in range(1, USERS_EACH))]
    return make_cast(tmp_path, recipe=recipe, user_names=names, **options)


@pytest.mark.parametrize("recipe", [COOCCURRENCE, RECON], ids=["cooccurrence", "recon"])
def test_no_frame_or_file_outside_the_homes_holds_anything_private(tmp_path, monkeypatch, recipe, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    watch = Watch(monkeypatch)
    cast = crowded(recipe, tmp_path)
    cast.run(observe=lambda traffic: watch.frames.append(traffic.data))
    said = (caplog.text + "".join(capsys.readouterr())).encode()
    assert len(watch.frames) >= 20
    assert len(watch.needles) > (100 if recipe is RECON else 10)
    assert watch.leaks(cast, more=said) == set()


@pytest.mark.parametrize("leak", ["name", "factors", "sum"])
def test_the_search_finds_a_client_that_leaks(tmp_path, monkeypatch, leak):
    watch = Watch(monkeypatch)
    cast = crowded(RECON if leak == "factors" else COOCCURRENCE, tmp_path)

    def leaks(node, message, handler):
        reply = handler(message)
        kind = {"name": "a user's name", "factors": "user factors", "sum": "a tenant's own sum"}[leak]
        found = [needle for name, needle in watch.needles.items() if name.startswith(kind)]
        if node == NODES["carl"] and found:
            reply.content["extra"] = ConfigRecord({"debug": found[-1]})
        return reply

    cast.run(meddle=leaks, observe=lambda traffic: watch.frames.append(traffic.data))
    assert watch.leaks(cast)


@pytest.mark.parametrize("kind", [ValueError, UnknownItem, CapacityExceeded])
def test_a_failing_client_tells_the_server_nothing_about_its_data(tmp_path, monkeypatch, kind):
    """The words of an exception may quote a history; Flower would send them to the server."""
    watch = Watch(monkeypatch)
    cast = crowded(COOCCURRENCE, tmp_path)

    def breaks(*arguments, **options):
        raise kind(f"cannot convert {CANARY}")

    with monkeypatch.context() as patch:
        patch.setattr("client.answer.tenant_values", breaks)
        with pytest.raises(DeploymentError, match="given up"):
            cast.run(observe=lambda traffic: watch.frames.append(traffic.data))
    assert watch.leaks(cast) == set()
    assert any(b"its own log says why" in frame for frame in watch.frames)


def test_an_empty_store_answers_like_any_other(tmp_path, monkeypatch):
    """A refusal would tell one user from none, without any noise."""
    nobody = Interactions(
        num_items=NUM_ITEMS, offsets=np.zeros(1, np.int64), items=np.zeros(0, np.int32), weights=np.zeros(0, np.float32)
    )
    cast = make_cast(tmp_path, histories={"carl": nobody})
    cast.run()
    assert [event["party"] for event in cast.events() if event["event"] == "contribution"][:3] == [
        "anna",
        "bert",
        "carl",
    ]


def test_a_device_takes_part_with_its_one_user(tmp_path):
    one = from_events(
        users=np.zeros(3, np.int64), items=np.array([1, 4, 2]), order=np.arange(3.0), num_users=1, num_items=NUM_ITEMS
    )
    cast = make_cast(
        tmp_path, declared={"carl": 1}, histories={"carl": one, "anna": history_of("anna"), "bert": history_of("bert")}
    )
    cast.run()
    released = [event for event in cast.events() if event["event"] == "step_released"]
    assert [(event["tenants"], event["users"]) for event in released] == [(3, 41), (3, 41)]
