"""How long a ServerApp waits for a message whose parts are still on their way.

Flower shows a reply as soon as it is announced, before its arrays have been uploaded, and then waits a whole second
(two, four… ten) for them. A server that asks often meets that nearly every time. This shortens the waits. It is about
speed alone: where Flower is built otherwise, nothing is changed and everything still works.
"""

from flwr.supercore.inflatable.inflatable_utils import pull_objects

FIRST_WAIT, LONGEST_WAIT = "initial_backoff", "backoff_cap"
WHOLE_WAIT, TRIES = "max_time", "max_tries_per_object"
LONGEST_OVER_FIRST = 8


def shorten_object_waits(seconds: float) -> bool:
    """Wait `seconds` before the first retry in this process, then twice, four and eight times as long; returns whether
    that could be set."""
    defaults = pull_objects.__kwdefaults__
    if not defaults or FIRST_WAIT not in defaults or LONGEST_WAIT not in defaults:
        return False
    defaults[FIRST_WAIT], defaults[LONGEST_WAIT] = seconds, seconds * LONGEST_OVER_FIRST
    return True


def bound_object_waits(seconds: float) -> bool:
    """Give a reply up whose parts have not come after `seconds`, however often it was looked for; returns as above.

    A node that dies while it uploads leaves an announced reply, for which Flower would wait two hours or 500 tries. It
    then reports an error in place of the reply, like that of a node that is gone.
    """
    defaults = pull_objects.__kwdefaults__
    if not defaults or WHOLE_WAIT not in defaults or TRIES not in defaults:
        return False
    defaults[WHOLE_WAIT], defaults[TRIES] = seconds, None
    return True
