"""One job in each of two worlds, a device with a history and without: the server is told the same, byte for byte in
size and word for word. `zhiyin sim audit` measures the rest; this says at once what changed."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from simulations.auditing import flaws
from simulations.auditing.transcript import Transcript, conduct, record, sizes
from simulations.auditing.worlds import Pair, _presence


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return _presence(tmp_path_factory.mktemp("presence"), 3)


def transcripts(pair: Pair, folder: Path, flaw: AbstractContextManager[None]) -> tuple[Transcript, Transcript]:
    with flaw:
        first, second = (
            record(stage, folder / str(world), until="first replies") for world, stage in enumerate(pair.stages)
        )
    assert first.calls
    return first, second


def test_whether_a_device_holds_a_history_shows_in_no_kind_order_word_or_size(pair: Pair, tmp_path: Path) -> None:
    empty, full = transcripts(pair, tmp_path, nullcontext())
    assert np.array_equal(conduct(empty), conduct(full))
    assert np.array_equal(sizes(empty), sizes(full))


def test_the_same_comparison_sees_a_refusal_and_a_size_that_depend_on_it(pair: Pair, tmp_path: Path) -> None:
    empty, full = transcripts(pair, tmp_path / "refusing", flaws.refuses_when_empty())
    assert not np.array_equal(conduct(empty), conduct(full))
    empty, full = transcripts(pair, tmp_path / "short", flaws.sends_compressed("cedar"))
    assert not np.array_equal(sizes(empty), sizes(full))
