"""The operator's questions to a running SuperLink, asked over its own interface.

Flower's command line asks the same over the same routes, and starts an interpreter for each question, most of which is
imports: two seconds for a node to register, five for a run to be started and its end to be looked up.
"""

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from shared.errors import ProcessFailed
from shared.node_key import require_node_key

RunValue = str | int | float | bool

ANSWER_SECONDS = 60.0
MEDIA_TYPE = "application/protobuf"
STREAM_MEDIA_TYPE = "application/flower-protobuf-stream"
# A stream's messages come each behind its length, a big-endian number of so many bytes.
LENGTH_BYTES = 4


class Control:
    """The control routes of the SuperLink at `address`, host:port, whose certificate comes from `authority`.

    Every question raises ProcessFailed with the SuperLink's complaint, or when it gives no answer.
    """

    def __init__(self, address: str, authority: Path) -> None:
        self._url = f"https://{address}/v1/control"
        # No proxy stands between two processes of one machine, whatever the environment says.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(authority))),
        )

    def register(self, public_key: Path, *, name: str) -> int:
        """Let the node with this key in; returns the number that it goes by from then on.

        Raises BadSetting for a file with anything but one key in its one form, as `zhiyin client init` writes it.
        """
        require_node_key(public_key.read_text(encoding="ascii", errors="replace").removesuffix("\n"))
        messages = _messages()
        pem = load_ssh_public_key(public_key.read_bytes()).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        answer = messages.RegisterNodeResponse()
        answer.ParseFromString(self._ask("register-node", messages.RegisterNodeRequest(public_key=pem, name=name)))
        return int(answer.node_id)

    def unregister(self, node_id: int) -> None:
        """Turn the node with this number away from now on."""
        self._ask("unregister-node", _messages().UnregisterNodeRequest(node_id=node_id))

    def start_run(self, bundle: bytes, digest: str, run_config: Mapping[str, RunValue]) -> int:
        """Start a bundle's ServerApp, with values for keys that its pyproject.toml declares; returns the run's id."""
        from flwr.common.serde import user_config_to_proto

        messages = _messages()
        request = messages.StartRunRequest(override_config=user_config_to_proto(dict(run_config)))
        request.fab.hash_str, request.fab.content = digest, bundle
        answer = messages.StartRunResponse()
        answer.ParseFromString(self._ask("start-run", request))
        if not answer.HasField("run_id"):
            raise ProcessFailed("the SuperLink did not start the run; its log says why")
        return int(answer.run_id)

    def status(self, run_id: int) -> str:
        """Return how a run stands: "pending", "running", "finished:completed", "finished:failed"…"""
        messages = _messages()
        answer = messages.ListRunsResponse()
        answer.ParseFromString(self._ask("list-runs", messages.ListRunsRequest(run_id=run_id)))
        status = answer.run_dict[run_id].status
        return f"{status.status}:{status.sub_status}" if status.sub_status else str(status.status)

    def log(self, run_id: int) -> str:
        """Return what the ServerApp of a run has printed; waits for the run's end."""
        messages = _messages()
        stream = self._ask("stream-logs", messages.StreamLogsRequest(run_id=run_id), media_type=STREAM_MEDIA_TYPE)
        return "".join(messages.StreamLogsResponse.FromString(part).log_output for part in _parts(stream))

    def _ask(self, route: str, request: Any, *, media_type: str = MEDIA_TYPE) -> bytes:
        asked = urllib.request.Request(  # noqa: S310 - https, as the address says
            f"{self._url}/{route}",
            data=request.SerializeToString(),
            headers={"Content-Type": MEDIA_TYPE, "Accept": media_type},
        )
        try:
            with self._opener.open(asked, timeout=ANSWER_SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")
            raise ProcessFailed(f"the SuperLink refused {route} with code {error.code}: {said}") from error
        except (OSError, http.client.HTTPException) as error:
            raise ProcessFailed(f"the SuperLink gave no answer to {route}: {error}") from error


def _messages() -> Any:
    from flwr.proto import control_pb2

    return control_pb2


def _parts(stream: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(stream):
        stop = start + LENGTH_BYTES + int.from_bytes(stream[start : start + LENGTH_BYTES], "big")
        yield stream[start + LENGTH_BYTES : stop]
        start = stop
