"""A Flower grid inside this process: the unmodified ServerApp and ClientApps, without sockets, processes or polling.

Every message is serialised and read back on its way out and on its way home, as on a network: sharing a mutable record
between the two sides would hide bugs and invent others. The one file that touches Flower's private task identity.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

Handler = Callable[[Message], Message | None]
Meddler = Callable[[int, Message, Handler], Message | None]
"""(node id, request, the node's own handler) -> reply, or None for one that does not come in time."""

_SERVER_NODE = 1
_FIRST_NODE = 101
# Of one length on the wire, as Flower's random ones nearly always are: two runs are compared by the size of messages.
_TASKS = count(2**40)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """One message that crossed the boundary between a client and the server, as bytes. `node`: which client."""

    node: int
    to_server: bool
    data: bytes


class InProcessGrid(Grid):
    """`app` on one node for each entry of `node_configs`; nodes are numbered from 101 in the order given.

    meddle: stands between grid and nodes, to make one fail in a test. observe: called with every message.
    """

    def __init__(
        self,
        app: ClientApp,
        node_configs: Iterable[UserConfig],
        *,
        meddle: Meddler | None = None,
        observe: Callable[[Traffic], None] | None = None,
        run_id: int = 1,
    ) -> None:
        self._app = app
        self._nodes: Mapping[int, UserConfig] = dict(enumerate(node_configs, start=_FIRST_NODE))
        self._meddle = meddle
        self._observe = observe
        self._run = Run.create_empty(run_id)
        self._ids = count(1)
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        identifiers = []
        for message in messages:
            identifier = f"message-{next(self._ids)}"
            message.metadata.__dict__["_message_id"] = identifier
            identifiers.append(identifier)
            reply = self._deliver(message)
            if reply is not None:
                self._replies[identifier] = reply
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(identifier) for identifier in message_ids if identifier in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Replies in the order of the requests. A node that stays silent is not waited for."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        if node not in self._nodes:
            return Message(Error(ErrorCode.NODE_UNAVAILABLE, "no such node"), reply_to=message)
        request = self._cross(node, message, to_server=False)
        meddle = self._meddle or (lambda _, received, handler: handler(received))
        reply = meddle(node, request, lambda received: self._handle(node, received))
        return None if reply is None else self._cross(node, reply, to_server=True)

    def _handle(self, node: int, request: Message) -> Message:
        context = Context(
            run_id=self._run.run_id,
            node_id=node,
            node_config=dict(self._nodes[node]),
            state=RecordDict(),
            run_config={},
        )
        try:
            with node_identity(node, self._run.run_id):
                return self._app(request, context)
        except Exception as error:
            # A real node reports an exception's class and text to the server in the same way.
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=request)

    def _cross(self, node: int, message: Message, *, to_server: bool) -> Message:
        data = message_to_proto(message).SerializeToString()
        if self._observe is not None:
            self._observe(Traffic(node=node, to_server=to_server, data=data))
        return message_from_proto(type(message_to_proto(message)).FromString(data))


def run_in_process(server: ServerApp, grid: InProcessGrid, run_config: UserConfig) -> None:
    """Run `server` against `grid` to its end; exceptions of the ServerApp come through."""
    context = Context(
        run_id=grid.run.run_id, node_id=_SERVER_NODE, node_config={}, state=RecordDict(), run_config=dict(run_config)
    )
    with node_identity(_SERVER_NODE, grid.run.run_id):
        server(grid, context)


@contextmanager
def node_identity(node: int, run_id: int) -> Iterator[None]:
    """Let messages made inside come from this node in this run, as Flower's processes have it."""
    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = next(_TASKS), run_id, node
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before
