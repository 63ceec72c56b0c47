"""`recon`: rounds of matrix factorisation in which every user's factors are reconstructed where the history is.

Federated reconstruction (Singhal et al. 2021, Alg. 1) with implicit feedback. For item factors V (m, d) and the items
S of one user, the user's factors are the closed-form minimiser of

    sum_{j in S} (1 - v_j.u)^2 + negative_weight * sum_{j not in S} (v_j.u)^2 + ridge |u|^2,

and the gradient of the first two sums on V, u held, is the outer product a u^T with a_j = -2 (1 - v_j.u) for j in S and
2 negative_weight v_j.u elsewhere. Its norm is |a| |u|, so clipping a whole user needs no gradient in memory, and the
clipped sum over users is A^T diag(clip) U. Interaction weights do not enter: feedback is implicit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import BadInput
from shared.interactions import Interactions
from shared.plan import ReconPlan
from shared.recipes.cooccurrence import head_items

# Padded float64 entries held at once by the batched solve: 32 MB.
_ENTRIES_AT_ONCE = 4_000_000
# The part of the magnitudes in a squared gradient norm that float64 may lose.
_NORM_SLACK = 2.0**-46


@dataclass(frozen=True, kw_only=True, eq=False)
class ReconState:
    """Where the server stands: item_factors and velocity float64 (num_items, num_factors); zero rows outside the
    head."""

    item_factors: NDArray[np.float64]
    velocity: NDArray[np.float64]


def initial_state(popularity: NDArray[np.float64], plan: ReconPlan) -> ReconState:
    """Small random factors for the head, from the plan's public seed; their first column is the square root of
    popularity.

    popularity: the released sum, float64 (num_items,), noise included. Popularity is known before the first round, so
    no round has to be spent on learning it.
    """
    head = head_items(popularity, plan.num_head_items)
    shares = np.maximum(popularity[head], 0.0)
    shares /= max(float(shares.max()), np.finfo(np.float64).tiny)
    drawn = np.random.default_rng(plan.init_seed).standard_normal((len(popularity), plan.num_factors))[head]
    drawn[:, 0] = np.sqrt(shares * plan.num_factors)
    item_factors = np.zeros((len(popularity), plan.num_factors))
    # An item with factors of exactly zero would not take part: popularity that drowned in noise must not decide that.
    item_factors[head] = plan.init_std * np.where(drawn == 0, 1e-3, drawn)
    return ReconState(item_factors=item_factors, velocity=np.zeros_like(item_factors))


def apply_gradient(
    state: ReconState, noisy_sum: NDArray[np.float64], *, noise_std: float, plan: ReconPlan
) -> ReconState:
    """One server step on the released sum of clipped gradients, float64 (num_items, num_factors).

    noise_std: standard deviation of the noise in each coordinate of `noisy_sum`, 0 for none. The step's root mean
    square over the head is plan.learning_rate, whatever the clip and the number of users.
    """
    if noisy_sum.shape != state.item_factors.shape:
        raise BadInput(f"gradient must have shape {state.item_factors.shape}, got {noisy_sum.shape}")
    active = active_items(state.item_factors)
    gradient = noisy_sum[active]
    energy = np.sum(gradient**2, axis=1, keepdims=True)
    noise_energy = noise_std**2 * gradient.shape[1]
    stands_out = energy > noise_energy
    gradient = gradient * np.where(stands_out, 1 - noise_energy / np.where(stands_out, energy, 1.0), 0.0)
    size = float(np.sqrt(np.mean(gradient**2))) if gradient.size else 0.0
    if size > 0:
        gradient = gradient / size
    velocity = np.zeros_like(state.velocity)
    velocity[active] = plan.momentum * state.velocity[active] + gradient
    return ReconState(item_factors=state.item_factors - plan.learning_rate * velocity, velocity=velocity)


def active_items(item_factors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which items take part: those with any factor that is not zero, bool (num_items,)."""
    return np.asarray(np.any(item_factors != 0, axis=1))


def training_history(
    item_factors: NDArray[np.float64], history: Interactions, *, max_items_per_user: int
) -> Interactions:
    """What a client trains on: items that take part, of each user the most recent `max_items_per_user` of those.

    Recent items say most about the next one, and a user's clipped gradient is shared by fewer of them.
    """
    _check(item_factors, history)
    keep = active_items(item_factors)[history.items]
    lengths = np.bincount(history.rows()[keep], minlength=history.num_users)
    active = Interactions(
        num_items=history.num_items,
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        items=history.items[keep],
        weights=history.weights[keep],
    )
    return active.last(max_items_per_user)


def solve_users(
    item_factors: NDArray[np.float64],
    history: Interactions,
    *,
    ridge: float,
    negative_weight: float,
    confidences: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """User factors float64 (num_users, num_factors); zero for an empty history.

    item_factors: float64 (num_items, num_factors). confidences: one weight for each entry of the history in place of 1
    (recency at recommendation time); they must be positive.
    Users with fewer items than factors are solved in the item space, by the push-through identity
    (G + B^T B)^-1 B^T = G^-1 B^T (I + B G^-1 B^T)^-1, the others directly.
    """
    _check(item_factors, history)
    num_factors = item_factors.shape[1]
    weights = np.ones(len(history.items)) if confidences is None else confidences
    # Row j of S counts c_j in the loss. Of that the shared Gram matrix already holds negative_weight.
    shared_gram = negative_weight * (item_factors.T @ item_factors) + ridge * np.eye(num_factors)
    inverse = np.linalg.inv(shared_gram)
    users = np.zeros((history.num_users, num_factors))
    for batch in _batches(history, num_factors):
        entries, mask = batch.entries, batch.mask
        rows = item_factors[history.items[entries]] * mask[..., None]
        extra = np.where(mask, weights[entries] - negative_weight, 0.0)
        target = np.where(mask, weights[entries], 0.0)
        if entries.shape[1] < num_factors:
            projected = rows @ inverse
            kernel = projected @ rows.transpose(0, 2, 1)
            kernel = kernel * extra[:, None, :] + np.eye(entries.shape[1])
            # u = G^-1 B^T (target - extra * (B u)); solving for B u keeps zero or negative `extra` harmless.
            right = projected @ (target[:, None, :] @ rows).transpose(0, 2, 1)
            fitted = np.linalg.solve(kernel, right)[..., 0]
            users[batch.users] = ((target - extra * fitted)[:, None, :] @ projected)[:, 0]
        else:
            gram = shared_gram + (rows * extra[..., None]).transpose(0, 2, 1) @ rows
            right = (target[:, None, :] @ rows).transpose(0, 2, 1)
            users[batch.users] = np.linalg.solve(gram, right)[..., 0]
    return users


def clipped_gradient_sum(
    item_factors: NDArray[np.float64],
    user_factors: NDArray[np.float64],
    history: Interactions,
    *,
    negative_weight: float,
    max_grad_norm: float,
) -> NDArray[np.float64]:
    """Sum over users of each user's whole gradient on the item factors, clipped in L2 to `max_grad_norm`; shaped
    (num_items, num_factors).

    Never builds the (users, items) residuals: they are 2 negative_weight V u plus a correction on the user's own items.
    """
    _check(item_factors, history)
    rows = history.rows()
    scores = np.einsum("ij,ij->i", item_factors[history.items], user_factors[rows])
    correction = -2 * (1 - scores) - 2 * negative_weight * scores
    norms = _gradient_norms(item_factors, user_factors, rows, scores, negative_weight)
    clip = max_grad_norm / np.maximum(norms, max_grad_norm)
    clipped = user_factors * clip[:, None]
    total: NDArray[np.float64] = 2 * negative_weight * item_factors @ (user_factors.T @ clipped)
    # One factor at a time over contiguous columns: no array of (entries, factors) is built.
    for factor, column in enumerate(np.ascontiguousarray(clipped.T)):
        weights = correction * column[rows]
        total[:, factor] += np.bincount(history.items, weights=weights, minlength=history.num_items)
    return total


def gradient_norms(
    item_factors: NDArray[np.float64],
    user_factors: NDArray[np.float64],
    history: Interactions,
    *,
    negative_weight: float,
) -> NDArray[np.float64]:
    """Each user's gradient norm before clipping, float64 (num_users,). Local use only: never sent."""
    rows = history.rows()
    scores = np.einsum("ij,ij->i", item_factors[history.items], user_factors[rows])
    return _gradient_norms(item_factors, user_factors, rows, scores, negative_weight)


def _gradient_norms(
    item_factors: NDArray[np.float64],
    user_factors: NDArray[np.float64],
    rows: NDArray[np.int64],
    scores: NDArray[np.float64],
    negative_weight: float,
) -> NDArray[np.float64]:
    gram = item_factors.T @ item_factors
    everywhere = 4 * negative_weight**2 * np.einsum("ij,ij->i", user_factors @ gram, user_factors)
    own = 4 * (1 - scores) ** 2 - 4 * negative_weight**2 * scores**2
    squared = everywhere + np.bincount(rows, weights=own, minlength=len(user_factors))
    lengths = np.linalg.norm(user_factors, axis=1)
    # A difference: where a user's own items carry all the scores it can cancel to nothing, and the clip would not see
    # the user. What can cancel is bounded by these magnitudes, so the norm errs upwards, as a rule by 1e-12.
    magnitude = 8 * negative_weight**2 * np.trace(gram) * lengths**2
    magnitude += np.bincount(rows, weights=4 * (1 + np.abs(scores)) ** 2, minlength=len(user_factors))
    return np.asarray(np.sqrt(np.maximum(squared, 0.0) + _NORM_SLACK * magnitude) * lengths)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    # users: (b,) row indices; entries: (b, longest) positions in the history's arrays, 0 where mask is False.
    users: NDArray[np.int64]
    entries: NDArray[np.int64]
    mask: NDArray[np.bool_]


def _batches(history: Interactions, num_factors: int) -> Iterator[_Batch]:
    # Users of like length together, so that padding stays small and memory bounded.
    lengths = history.lengths
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    start = 0
    while start < len(order):
        shortest = int(lengths[order[start]])
        longest = max(shortest + shortest // 4, shortest + 1)
        per_user = longest * (num_factors + min(longest, num_factors)) + num_factors * num_factors
        stop = min(start + max(1, _ENTRIES_AT_ONCE // per_user), len(order))
        stop = min(stop, int(np.searchsorted(lengths[order], longest, side="right")))
        users = order[start:stop]
        width = int(lengths[users[-1]])
        steps = np.arange(width)
        mask = steps < lengths[users, None]
        yield _Batch(users=users, entries=np.where(mask, history.offsets[users, None] + steps, 0), mask=mask)
        start = stop


def _check(item_factors: NDArray[np.float64], history: Interactions) -> None:
    if item_factors.ndim != 2 or len(item_factors) != history.num_items:
        raise BadInput(f"item factors must have {history.num_items} rows, got shape {item_factors.shape}")
