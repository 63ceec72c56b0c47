"""The grid inside this process behaves like one between processes."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.task_identity import TaskIdentity

from server.exchange import Exchange, Silence
from shared.errors import TooFewClients
from simulations.engine import InProcessGrid, run_in_process

clients = ClientApp()


@clients.train()
def train(message: Message, context: Context) -> Message:
    wish = str(context.node_config["wish"])
    frame = message.content.array_records["frame"]["frame"].numpy().tobytes()
    if wish == "fail":
        raise RuntimeError("out of memory")
    if wish == "strange":
        return Message(RecordDict({"frame": ConfigRecord({"frame": "no array"})}), reply_to=message)
    message.content["frame"] = ArrayRecord({"frame": Array(np.frombuffer(b"overwritten", np.uint8))})
    reply = Array(np.frombuffer(wish.encode() + b":" + frame, np.uint8))
    return Message(RecordDict({"frame": ArrayRecord({"frame": reply})}), reply_to=message)


def exchange(wishes: list[str], work, **options):
    """What `work(Exchange)` returns, run as a ServerApp."""
    found = []
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        found.append(work(Exchange(grid)))

    run_in_process(app, InProcessGrid(clients, [{"wish": wish} for wish in wishes], **options), {})
    return found[0]


def ask_all(seconds: float = 5.0, most_bytes: int = 1_000):
    def work(grid: Exchange):
        nodes = grid.nodes(wanted=1, least=1, timeout_seconds=0)
        asking = dict.fromkeys(nodes, b"hello")
        return list(grid.ask(asking, group="g", timeout_seconds=seconds, most_bytes=most_bytes).values())

    return work


def test_every_node_gets_the_frame_and_answers_with_its_own():
    assert exchange(["a", "b"], ask_all()) == [b"a:hello", b"b:hello"]


def test_a_node_cannot_change_what_another_one_receives():
    assert exchange(["a", "b", "c"], ask_all())[2] == b"c:hello"


def test_an_exception_in_a_node_is_its_silence_and_nobody_elses():
    answers = exchange(["a", "fail", "b"], ask_all())
    assert answers[0::2] == [b"a:hello", b"b:hello"]
    assert "out of memory" in answers[1].reason


def test_a_reply_without_a_frame_is_silence():
    assert exchange(["strange"], ask_all()) == [Silence(reason="its reply holds no frame")]


def test_a_reply_longer_than_any_honest_one_is_dropped_as_it_comes_in():
    long, short = exchange(["x" * 1_000, "b"], ask_all(most_bytes=1_000))
    assert short == b"b:hello"
    # With the array's own header.
    assert long == Silence(reason="its reply has 1134 bytes, 1000 at most were to be expected")


def test_a_node_that_is_late_is_not_waited_for_longer_than_told():
    def late(node, message, handler):
        return None if node == 101 else handler(message)

    answers = exchange(["a", "b"], ask_all(seconds=0.3), meddle=late)
    assert answers == [Silence(reason="no answer within 0.3 s"), b"b:hello"]


def test_a_node_that_is_not_there_is_silence():
    def work(grid: Exchange):
        return grid.ask({999: b"hello"}, group="g", timeout_seconds=5.0, most_bytes=1_000)[999]

    assert "no such node" in exchange(["a"], work).reason


def test_too_few_nodes_are_an_error():
    with pytest.raises(TooFewClients, match="1 nodes are connected after 0 s, at least 2"):
        exchange(["a"], lambda grid: grid.nodes(wanted=3, least=2, timeout_seconds=0))


def test_traffic_is_observed_both_ways():
    seen = []
    exchange(["a"], ask_all(), observe=seen.append)
    assert [traffic.to_server for traffic in seen] == [False, True]
    assert b"hello" in seen[0].data
    assert b"a:hello" in seen[1].data


def test_the_process_is_left_without_a_task_identity():
    exchange(["a"], ask_all())
    with pytest.raises(RuntimeError):
        _ = TaskIdentity.node_id
