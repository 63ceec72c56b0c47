"""Opacus' ghost clipping against the closed form, and the traps of Opacus 1.6 that this product stays clear of."""

import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
from torch import Tensor, nn

from client.opacus_gradient import clipped_gradient_sum
from shared.errors import BadInput
from shared.interactions import Interactions
from shared.recipes import recon

Floats = NDArray[np.float64]
NUM_ITEMS, NUM_FACTORS = 37, 5


def histories(num_users: int, seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(NUM_ITEMS)[: rng.integers(0, 9)] for _ in range(num_users)]
    items = np.concatenate([*rows, np.zeros(0, dtype=np.int64)]).astype(np.int32)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Interactions(num_items=NUM_ITEMS, offsets=offsets, items=items, weights=np.ones(len(items), np.float32))


def factors(num_users: int, seed: int = 1) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(NUM_ITEMS, NUM_FACTORS)), rng.normal(size=(num_users, NUM_FACTORS))


def by_opacus(history: Interactions, max_grad_norm: float = 1.0, batch_users: int = 7, scale: float = 1.0) -> Floats:
    item_factors, user_factors = factors(history.num_users)
    return clipped_gradient_sum(
        item_factors=item_factors,
        user_factors=user_factors * scale,
        history=history,
        negative_weight=0.1,
        max_grad_norm=max_grad_norm,
        batch_users=batch_users,
    )


def user_gradients(item_factors: Floats, user_factors: Floats, history: Interactions, negative_weight: float) -> Floats:
    """(users, items, factors), written out one user at a time."""
    gradients = []
    for user, factor in enumerate(user_factors):
        own = history.items[history.offsets[user] : history.offsets[user + 1]]
        target, weight = np.zeros(NUM_ITEMS), np.full(NUM_ITEMS, negative_weight)
        target[own], weight[own] = 1.0, 1.0
        gradients.append(np.outer(-2 * weight * (target - item_factors @ factor), factor))
    return np.array(gradients)


@pytest.mark.parametrize("max_grad_norm", [0.01, 1.0, 10.0, 1e6])
def test_opacus_gives_the_sum_of_clipped_gradients_written_out_by_hand(max_grad_norm: float) -> None:
    history = histories(40)
    gradients = user_gradients(*factors(40), history, 0.1)
    norms = np.linalg.norm(gradients, axis=(1, 2), keepdims=True)
    expected = (gradients * np.minimum(1, max_grad_norm / norms)).sum(axis=0)
    assert by_opacus(history, max_grad_norm) == pytest.approx(expected, rel=1e-9, abs=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("max_grad_norm", [0.01, 1.0, 10.0, 1e6])
def test_opacus_and_the_pure_closed_form_agree_to_nine_digits(max_grad_norm: float) -> None:
    history = histories(40)
    pure = recon.clipped_gradient_sum(*factors(40), history, negative_weight=0.1, max_grad_norm=max_grad_norm)
    assert np.abs(by_opacus(history, max_grad_norm) - pure).max() <= 1e-9 * np.abs(pure).max()


@pytest.mark.parametrize("batch_users", [1, 2, 39, 40, 100])
def test_the_batch_size_is_a_matter_of_memory_only(batch_users: int) -> None:
    assert np.allclose(
        by_opacus(histories(40), batch_users=batch_users), by_opacus(histories(40)), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e6])
def test_one_user_moves_the_sum_by_no_more_than_the_clip(scale: float) -> None:
    moved = np.linalg.norm(by_opacus(histories(1), max_grad_norm=0.5, scale=scale))
    assert moved <= 0.5 * (1 + 1e-12)


def test_without_the_clip_that_user_would_pass_the_bound() -> None:
    assert np.linalg.norm(by_opacus(histories(1), max_grad_norm=1e9, scale=1e3)) > 1e3


def test_nobody_gives_zero() -> None:
    assert not by_opacus(histories(0)).any()


def test_the_callers_factors_are_left_alone() -> None:
    item_factors, user_factors = factors(3)
    before = item_factors.copy()
    clipped_gradient_sum(
        item_factors=item_factors, user_factors=user_factors, history=histories(3), negative_weight=0.1,
        max_grad_norm=1.0, batch_users=2,
    )  # fmt: skip
    assert np.array_equal(item_factors, before)


def test_other_warnings_are_not_silenced() -> None:
    filters = list(warnings.filters)
    by_opacus(histories(3))
    assert warnings.filters == filters


def test_factors_that_do_not_fit_are_refused() -> None:
    item_factors, user_factors = factors(4)
    fits = (item_factors, user_factors)
    for bad_items, bad_users in ((fits[0][1:], fits[1]), (fits[0], fits[1][1:]), (fits[0] * np.nan, fits[1])):
        with pytest.raises(BadInput):
            clipped_gradient_sum(
                item_factors=bad_items, user_factors=bad_users, history=histories(4), negative_weight=0.1,
                max_grad_norm=1.0, batch_users=2,
            )  # fmt: skip


# Traps. Each test shows a defect or limit of the library as it is, so that an upgrade which mends it is noticed.


expected_warning = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")


def ghost(module: nn.Module, max_grad_norm: float = 1.0) -> GradSampleModuleFastGradientClipping:
    wrapped = GradSampleModuleFastGradientClipping(module, loss_reduction="sum", max_grad_norm=max_grad_norm)
    wrapped.train()
    return wrapped


def clipped_norm(wrapped: GradSampleModuleFastGradientClipping, weight: Tensor, losses: Tensor) -> float:
    """The two passes of ghost clipping, then the norm of what would be summed."""
    losses.sum().backward(retain_graph=True)
    weight.grad = None
    coefficients = wrapped.get_clipping_coef()
    wrapped.disable_hooks()
    (coefficients * losses).sum().backward()
    assert weight.grad is not None
    return float(weight.grad.norm())


@expected_warning
def test_trap_embedding_bag_with_repeated_ids_is_not_clipped_in_ghost_mode() -> None:
    # The user's gradient is 64/16 = 4 in each of the 4 factors of one row: norm 8. The clip at 1 should leave 1.
    wrapped = ghost(nn.EmbeddingBag(10, 4, mode="sum"))
    losses = wrapped(torch.full((64,), 3), torch.tensor([0])).sum(dim=1) / 16
    assert clipped_norm(wrapped, wrapped._module.weight, losses) == pytest.approx(8.0, rel=1e-4)


@expected_warning
def test_embedding_is_clipped_in_ghost_mode_with_the_same_repeated_ids() -> None:
    wrapped = ghost(nn.Embedding(10, 4))
    losses = wrapped(torch.full((1, 64), 3)).sum(dim=(1, 2)) / 16
    assert clipped_norm(wrapped, wrapped._module.weight, losses) == pytest.approx(1.0, rel=1e-4)


@expected_warning
def test_trap_padding_idx_gets_a_gradient_by_sample() -> None:
    module = nn.Embedding(10, 4, padding_idx=0)
    wrapped = GradSampleModule(module, loss_reduction="sum")
    wrapped(torch.tensor([[0, 3]])).sum().backward()
    assert module.weight.grad is not None
    assert module.weight.grad[0].norm() == 0  # torch keeps its promise
    assert module.weight.grad_sample[0, 0].norm() > 0  # Opacus does not know of it


def test_trap_an_embedding_used_twice_raises_in_ghost_mode() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 4)

        def forward(self, ids: Tensor) -> Tensor:
            return torch.as_tensor(self.table(ids) * self.table(ids))

    with pytest.raises(NotImplementedError, match="tying"):
        ghost(Twice())(torch.tensor([[1, 2]]))
