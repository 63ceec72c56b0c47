"""The product with one protection broken, for as long as a block lasts: what an attack must catch to be believed.

Each flaw replaces one function of the running product by name and puts it back; everything else is unmodified.
"""

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import client.answer
import client.contribution
import client.opacus_gradient
import shared.recipes.cooccurrence
import shared.secagg.fixed_point
import shared.secagg.topology_h
from client.home import ClientHome
from shared.clipping import UserVectors
from shared.interactions import Interactions
from shared.secagg import discrete_gaussian
from shared.secagg.prg import Watch, mask_packed
from shared.secagg.topology_h import Contribution

StepKind = Literal["popularity", "pairs", "gradient"]
_SECONDS_AN_ITEM = 0.02


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """`owner.name` is `value` inside the block. Raises AttributeError if there is nothing to replace."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def lost_clip(*kinds: StepKind) -> Iterator[None]:
    """The client without the clip of these kinds: its own code, but for the one step that bounds a user."""
    with ExitStack() as stack:
        if "popularity" in kinds:
            stack.enter_context(replaced(client.contribution, "popularity_vectors", _loud_popularity))
        if "pairs" in kinds:
            unscaled = replaced(
                shared.recipes.cooccurrence, "_pair_scale", lambda lengths, gamma: np.ones(len(lengths))
            )
            stack.enter_context(unscaled)
        if "gradient" in kinds:
            clipped = client.opacus_gradient.clipped_gradient_sum
            stack.enter_context(replaced(client.opacus_gradient, "clipped_gradient_sum", _unclipped(clipped)))
        yield


def no_check_before_rounding() -> Any:
    """The second line of defence, which refuses a user that was not clipped, is gone too."""
    return replaced(shared.secagg.fixed_point, "_require_clipped", lambda *_: None)


def sends_compressed(party: str) -> Any:
    """The client of `party`: its frame is as long as its integers compress to, and tells how much there is."""
    contribute = shared.secagg.topology_h.contribute

    def compressed(*, client: str, values: NDArray[np.int64], **fields: Any) -> Contribution:
        honest = contribute(client=client, values=values, **fields)
        if client != party:
            return honest
        return replace(honest, masked=honest.masked[: len(zlib.compress(values.tobytes()))])

    return replaced(client.answer, "contribute", compressed)


def refuses_when_empty() -> Any:
    """A client that says no, in neutral words, when there is no history to sum."""

    def strict(home: ClientHome) -> Interactions:
        return home.store.interactions(home.catalogue)[0]

    return replaced(client.answer, "_history", strict)


def answers_slowly_with_more(party: str) -> Any:
    """The client of `party` takes twenty milliseconds more for each interaction that it holds."""
    read = client.answer._history

    def slow(home: ClientHome) -> Interactions:
        history = read(home)
        if home.name == party:
            time.sleep(_SECONDS_AN_ITEM * len(history.items))
        return history

    return replaced(client.answer, "_history", slow)


def sends_without_mask() -> Any:
    """A client that seals its seeds and then forgets to subtract their streams."""

    def bare(values: NDArray[np.int64], bits: int, *, subtracted: Sequence[bytes], watch: Watch) -> bytes:
        return mask_packed(values, bits, watch=watch)

    return replaced(shared.secagg.topology_h, "mask_packed", bare)


def helpers_without_noise() -> Any:
    """Helpers whose noise is zero."""

    def silent(noise_std: int, size: int, random_bytes: Callable[[int], bytes]) -> NDArray[np.int64]:
        return np.zeros(size, dtype=np.int64)

    return replaced(discrete_gaussian, "sample", silent)


def _loud_popularity(people: Interactions) -> UserVectors:
    return UserVectors(
        num_coordinates=people.num_items,
        offsets=people.offsets,
        coordinates=people.items.astype(np.int64),
        values=people.weights.astype(np.float64),
    )


def _unclipped(gradient: Callable[..., NDArray[np.float64]]) -> Callable[..., NDArray[np.float64]]:
    return lambda **fields: gradient(**{**fields, "max_grad_norm": 1e6})
