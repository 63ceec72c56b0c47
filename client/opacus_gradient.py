"""A tenant's clipped gradient through Opacus: one sample is one user, clipped whole by ghost clipping.

The item factors are the weight of one `nn.Linear` without bias that maps a user's factors to scores. A user's gradient
on it is an outer product, whose norm ghost clipping gets exactly from two vectors, without (users, items, factors).

The noise is not Opacus': its noise multiplier is 0 here. torch's CPU generator is a Mersenne Twister, whose state can
be recovered from its output, and Gaussian samples in floating point leak the value below them through their low bits
(Mironov 2012). What this returns is therefore not private by itself: it is rounded to integers and gets exact
discrete Gaussian noise from the operating system's randomness before anybody else sees it (shared/secagg).
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import PrivacyEngine
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from shared.errors import BadInput
from shared.interactions import Interactions

# Opacus clips by max_grad_norm / (norm + 1e-6). Loss and clip are multiplied by this power of two, which floating point
# does exactly, and the result divided: the 1e-6 becomes 1e-18 and the clip is the one that the plan states.
_SCALE = 2.0**40


def clipped_gradient_sum(
    *,
    item_factors: NDArray[np.float64],
    user_factors: NDArray[np.float64],
    history: Interactions,
    negative_weight: float,
    max_grad_norm: float,
    batch_users: int,
) -> NDArray[np.float64]:
    """Sum over the users of each one's whole gradient on the item factors, clipped in L2 to `max_grad_norm`.

    item_factors: float64 (num_items, num_factors). user_factors: float64 (num_users, num_factors), held constant.
    The loss of a user is sum_j w_j (t_j - v_j.u)^2 over all items j, with w = t = 1 on the user's items and
    w = negative_weight, t = 0 elsewhere; its gradient is taken as it is, factor 2 included. It depends on that user
    alone.
    batch_users: users in memory at once, (batch_users, num_items) float64; it does not change the result.
    Returns float64 (num_items, num_factors), without noise. Raises BadInput for shapes that do not fit or values that
    are not finite.
    """
    _check(item_factors, user_factors, history, batch_users)
    if not 0 < max_grad_norm < np.inf or not 0 <= negative_weight < np.inf:
        raise BadInput("max_grad_norm must be above zero and negative_weight not below it, both finite")
    if history.num_users == 0:
        return np.zeros_like(item_factors)
    model = nn.Linear(item_factors.shape[1], item_factors.shape[0], bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(item_factors))
    loader = DataLoader(TensorDataset(torch.from_numpy(user_factors)), batch_size=batch_users)
    with _narrowed_warnings():
        private, optimizer, criterion, _ = PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
            criterion=_WholeUserLoss(negative_weight),
            data_loader=loader,
            noise_multiplier=0.0,
            max_grad_norm=max_grad_norm * _SCALE,
            loss_reduction="sum",
            poisson_sampling=False,
            grad_sample_mode="ghost",
        )
        total = torch.zeros_like(model.weight)
        for start in range(0, history.num_users, batch_users):
            stop = min(start + batch_users, history.num_users)
            optimizer.zero_grad(set_to_none=True)
            scores = private(torch.from_numpy(user_factors[start:stop]))
            criterion(scores, _is_own_item(history, start, stop)).backward()
            if model.weight.grad is None:
                raise RuntimeError("Opacus left no gradient; its version is not one that this was written for")
            total += model.weight.grad
    return np.asarray(total.detach().numpy() / _SCALE, dtype=np.float64)


class _WholeUserLoss(nn.Module):
    """One loss a user. Opacus sets `reduction` to "none" to get them apart, so that it can clip between."""

    def __init__(self, negative_weight: float) -> None:
        super().__init__()
        self.reduction = "sum"
        self._negative_weight = negative_weight

    def forward(self, scores: Tensor, own: Tensor) -> Tensor:
        target = own.to(scores.dtype)
        weights = target + self._negative_weight * (1 - target)
        losses = _SCALE * (weights * (target - scores) ** 2).sum(dim=1)
        return losses if self.reduction == "none" else losses.sum()


def _is_own_item(history: Interactions, start: int, stop: int) -> Tensor:
    own = torch.zeros((stop - start, history.num_items), dtype=torch.bool)
    first, last = history.offsets[start], history.offsets[stop]
    rows = np.repeat(np.arange(stop - start), np.diff(history.offsets[start : stop + 1]))
    own[torch.from_numpy(rows), torch.from_numpy(history.items[first:last].astype(np.int64))] = True
    return own


@contextmanager
def _narrowed_warnings() -> Iterator[None]:
    """Silence two known sentences of Opacus for this block, and nothing else."""
    with warnings.catch_warnings():
        # About torch's generator, which no noise comes from here.
        warnings.filterwarnings("ignore", message="Secure RNG turned off", category=UserWarning)
        # About the input of the first layer, the users' factors, which are constants.
        warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
        yield


def _check(
    item_factors: NDArray[np.float64], user_factors: NDArray[np.float64], history: Interactions, batch_users: int
) -> None:
    if item_factors.ndim != 2 or user_factors.shape != (history.num_users, item_factors.shape[1]):
        raise BadInput(f"user factors of shape {user_factors.shape} do not fit {history.num_users} users and the items")
    if len(item_factors) != history.num_items:
        raise BadInput(f"item factors have {len(item_factors)} rows, the history has {history.num_items} items")
    if not (np.all(np.isfinite(item_factors)) and np.all(np.isfinite(user_factors))):
        raise BadInput("factors hold a value that is not finite")
    if batch_users < 1:
        raise BadInput(f"batch_users must be at least 1, got {batch_users}")
