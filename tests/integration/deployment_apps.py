"""Small Flower apps that the tests of the deployment send through a real federation."""

from pathlib import Path

PYPROJECT = """
[project]
name = "{name}"
version = "1.0.0"
license = {{ file = "LICENSE" }}
dependencies = ["flwr>=1.41,<1.42"]

[tool.flwr.app]
publisher = "zhiyin-tests"
fab-format-version = 1
flwr-version-target = "1.41.0"
fab-include = ["/server/**/*.py", "/client/**/*.py", "/LICENSE"]

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
rounds = 3
nodes = 2
report = ""
fail = false
"""

# A server that asks every node once a round and writes down, round by round, what came back and how long it took.
SERVER = """
import json
import time

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
from flwr.supercore.inflatable.inflatable_utils import pull_objects

app = ServerApp()


@app.main()
def main(grid, context):
    # as server/pace.py does
    pull_objects.__kwdefaults__["initial_backoff"] = 0.1
    settings = context.run_config
    while len(nodes := list(grid.get_node_ids())) < settings["nodes"]:
        time.sleep(0.1)
    for number in range(settings["rounds"]):
        begun = time.monotonic()
        question = RecordDict({"question": ConfigRecord({"round": number})})
        waiting = set(grid.push_messages([Message(question, node, "query") for node in nodes]))
        answers = []
        while waiting:
            arrived = list(grid.pull_messages(waiting))
            waiting -= {message.metadata.reply_to_message_id for message in arrived}
            for message in arrived:
                if message.has_error():
                    answers.append({"error": message.error.code, "reason": message.error.reason})
                else:
                    answers.append(dict(message.content["answer"]))
            time.sleep(0.1)
        seconds = time.monotonic() - begun
        with open(settings["report"], "a") as report:
            report.write(json.dumps({"round": number, "seconds": seconds, "answers": answers}) + "\\n")
    if settings["fail"]:
        raise RuntimeError("this run was asked to fail")
"""

CLIENT = """
import os
import sys

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
IMPORTED_BY = os.getpid()


@app.query()
def query(message, context):
    answer = ConfigRecord({
        "home": context.node_config["zhiyin-home"],
        "round": message.content["question"]["round"],
        "file": __file__,
        "pid": os.getpid(),
        "imported-by": IMPORTED_BY,
        "flower-home": os.environ["FLWR_HOME"],
        "telemetry": os.environ["FLWR_TELEMETRY_ENABLED"],
    })
    return Message(RecordDict({"answer": answer}), reply_to=message)
"""

# What a SuperLink in the wrong hands would send: the import alone does the harm. It leaves a file named for the node.
HOSTILE_CLIENT = """
import os
from pathlib import Path

node = Path(os.environ["FLWR_HOME"]).parent.name
Path(MARKERS, node).write_text("the node ran code that nobody reviewed")
"""


def hostile_client(markers: Path) -> str:
    """Source of a ClientApp that, once imported, writes a file named for its node into `markers`."""
    return f"MARKERS = {str(markers)!r}\n" + HOSTILE_CLIENT + CLIENT


def write_app(folder: Path, *, name: str, client: str = CLIENT, server: str = SERVER) -> Path:
    """Write an app's project into `folder` and return it."""
    for package, source in (("server", server), ("client", client)):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("")
        (folder / package / "app.py").write_text(source)
    (folder / "pyproject.toml").write_text(PYPROJECT.format(name=name))
    (folder / "LICENSE").write_text("for tests\n")
    return folder
