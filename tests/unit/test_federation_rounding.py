"""The rounding of one release says nothing about another's, or two would cost more than their noise says."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client import answer as answering
from shared.interactions import Interactions
from shared.plan import Step, TrainingPlan, plan_to_json
from shared.wire import ContributionReply, ContributionRequest, decode, encode
from tests.federation_cast import make_cast


def seeds_of_two_attempts(monkeypatch: pytest.MonkeyPatch, folder: Path, noise: str) -> list[bytes]:
    """The rounding secrets that one client uses for two attempts at one step."""
    used: list[bytes] = []

    def spy(
        plan: TrainingPlan, step: Step, inputs: dict[str, Any], history: Interactions, *, secret_seed: bytes
    ) -> NDArray[np.int64]:
        used.append(secret_seed)
        return np.zeros(step.num_coordinates, dtype=np.int64)

    monkeypatch.setattr(answering, "tenant_values", spy)
    cast = make_cast(folder, noise=noise)
    roster = (folder / "server" / "roster.bin").read_bytes()
    for attempt in range(2):
        request = ContributionRequest(
            plan_json=plan_to_json(cast.plan), step=0, attempt=attempt, roster=roster, inputs={}
        )
        reply = answering.answer(cast.home("carl"), encode(request), now=int(time.time()), random_bytes=os.urandom)
        assert isinstance(decode(reply), ContributionReply)
    return used


def test_each_attempt_rounds_with_draws_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = seeds_of_two_attempts(monkeypatch, tmp_path, "helpers")
    assert first != second
    assert len(first) == len(second) == 32


def test_without_noise_a_run_is_repeatable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first, second = seeds_of_two_attempts(monkeypatch, tmp_path, "none")
    assert first == second
