"""The Flower side of the client: a frame comes in, a frame goes out. Everything that decides is in `client.answer`.

Nothing is kept in `Context.state`, which Flower loses on a restart; the home folder, named by the node's own
configuration and never by the server, holds what must last.
"""

import os
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.answer import local_refusal
from client.home import ClientHome
from client.release_time import Timer, answer_on_time
from shared.array_frame import frame_of_array
from shared.errors import BadSetting

HOME_SETTING = "zhiyin-home"

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer one frame of the server with one frame of this client.

    Never raises: Flower would report an exception's text, which may quote local files, to the server. For the same
    reason nothing of what goes wrong here is told, not even the kind of it: a home that does not open names its files.
    """
    timer = Timer(clock=time.monotonic, sleep=time.sleep)
    came_in = timer.clock()
    try:
        home = ClientHome.open(_folder(context))
        reply = answer_on_time(
            home,
            _frame(message.content),
            came_in=came_in,
            waits_seconds=message.metadata.ttl,
            timer=timer,
            now=int(time.time()),
            random_bytes=os.urandom,
        )
    except Exception as error:
        reply = local_refusal("unnamed", error)
    record = ArrayRecord({"frame": Array(np.frombuffer(reply, np.uint8))})
    return Message(RecordDict({"frame": record}), reply_to=message)


def _folder(context: Context) -> Path:
    path = context.node_config.get(HOME_SETTING)
    if not isinstance(path, str) or not path:
        raise BadSetting(f"the node's configuration names no home; start it with {HOME_SETTING} set to the folder")
    return Path(path)


def _frame(content: RecordDict) -> bytes:
    return frame_of_array(content.array_records["frame"]["frame"].data)
