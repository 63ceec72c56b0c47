"""One round of Flower's own SecAgg+, in process, for comparison: processor time of its clients and of its server.

Its workflow and its client mod run unchanged; the transport between them is a function call, and copying messages is
not counted, so that what is timed is the protocol. Clients that drop out do so when the key shares are out and before
their masked vector: the dearest moment for the server.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import flwr.compat.common.recorddict_compat as compat
import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.server import LegacyContext, ServerConfig, SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey

from simulations.engine import InProcessGrid, node_identity


@dataclass(frozen=True, kw_only=True)
class PeerRound:
    """Processor seconds of all clients together and of the server; error: largest against the plain mean."""

    clients_s: float
    server_s: float
    error: float


class _Proxy(ClientProxy):
    def __init__(self, node_id: int) -> None:
        super().__init__(str(node_id))
        self.node_id = node_id

    def _unused(self, *_: object) -> None:
        raise NotImplementedError

    get_properties = get_parameters = fit = evaluate = reconnect = _unused  # type: ignore[assignment]


class _DirectGrid(InProcessGrid):
    """Hands each message to its client's mod; clients keep their state, as in a deployment."""

    def __init__(self, vectors: dict[int, np.ndarray], dropped: set[int]) -> None:
        super().__init__(lambda *_: None, [])  # type: ignore[arg-type]
        self._vectors, self._dropped = vectors, dropped
        self._contexts = {
            node: Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={}) for node in vectors
        }
        self.clients_s = self.copying_s = 0.0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        message = self._copy(message)
        stage = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
        if node in self._dropped and stage in (Stage.COLLECT_MASKED_VECTORS, Stage.UNMASK):
            return Message(Error(1, "gone"), reply_to=message)
        start = time.process_time()
        reply = secaggplus_mod(message, self._contexts[node], self._train)
        self.clients_s += time.process_time() - start
        return reply

    def _copy(self, message: Message) -> Message:
        start = time.process_time()
        copied = message_from_proto(message_to_proto(message))
        self.copying_s += time.process_time() - start
        return copied

    def _train(self, message: Message, context: Context) -> Message:
        parameters = ndarrays_to_parameters([self._vectors[context.node_id]])
        result = FitRes(Status(Code.OK, ""), parameters, num_examples=1, metrics={})
        return Message(compat.fitres_to_recorddict(result, keep_input=True), reply_to=message)


@contextmanager
def _quiet() -> Iterator[None]:
    # Flower logs every round on the console.
    logger = logging.getLogger("flwr")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def flower_round(*, num_clients: int, num_coordinates: int, num_dropped: int) -> PeerRound:
    """One round on a complete graph, threshold two thirds, modulus 2^32, with random vectors in [-1, 1]."""
    rng = np.random.default_rng(7)
    nodes = list(range(1, num_clients + 1))
    vectors = {node: rng.uniform(-1, 1, num_coordinates).astype(np.float32) for node in nodes}
    dropped = set(nodes[:num_dropped])
    manager = SimpleClientManager()
    for node in nodes:
        manager.register(_Proxy(node))
    strategy = FedAvg(fraction_fit=1.0, min_fit_clients=num_clients, min_available_clients=num_clients)
    base = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={})
    context = LegacyContext(context=base, config=ServerConfig(num_rounds=1), strategy=strategy, client_manager=manager)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    start_at = ndarrays_to_parameters([np.zeros(num_coordinates, dtype=np.float32)])
    context.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(start_at, keep_input=True)
    grid = _DirectGrid(vectors, dropped)
    workflow = SecAggPlusWorkflow(
        num_shares=1.0, reconstruction_threshold=2 / 3, max_weight=1.0, clipping_range=1.0, quantization_range=2**22
    )
    with _quiet(), node_identity(1, 1):
        start = time.process_time()
        workflow(grid, context)
        spent = time.process_time() - start
    found = compat.arrayrecord_to_parameters(context.state.array_records[MAIN_PARAMS_RECORD], keep_input=True)
    opened = np.load(BytesIO(found.tensors[0]), allow_pickle=False)
    expected = np.mean([vectors[node] for node in nodes if node not in dropped], axis=0)
    return PeerRound(
        clients_s=grid.clients_s,
        server_s=spent - grid.clients_s - grid.copying_s,
        error=float(np.abs(opened - expected).max()),
    )


if __name__ == "__main__":
    for size in (10_000, 100_000):
        print(size, flower_round(num_clients=20, num_coordinates=size, num_dropped=2))
