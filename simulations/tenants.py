"""Dividing a data set's users among institutions, for experiments on what federating is worth."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import diags_array
from scipy.sparse.linalg import svds

from shared.errors import BadSetting
from shared.interactions import Interactions
from simulations.baselines import binary_matrix

TenantsBy = Literal["equal", "taste"]
_TASTE_DIMENSIONS = 8
_ROUNDS = 30


def assign_tenants(
    history: Interactions, num_tenants: int, by: TenantsBy, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """User indices of each tenant, every user once. `equal`: drawn at random, sizes within one; `taste`: by what they
    take.

    Raises BadSetting for more tenants than users.
    """
    if not 1 <= num_tenants <= history.num_users:
        raise BadSetting(f"tenants must be from 1 to the {history.num_users} users, got {num_tenants}")
    if num_tenants == 1:
        return [np.arange(history.num_users, dtype=np.int64)]
    if by == "equal":
        return [np.sort(part) for part in np.array_split(rng.permutation(history.num_users), num_tenants)]
    labels = _taste_labels(history, num_tenants, rng)
    return [np.flatnonzero(labels == tenant) for tenant in range(num_tenants)]


def _taste_labels(history: Interactions, num_tenants: int, rng: np.random.Generator) -> NDArray[np.int64]:
    # Spherical k-means on users' leading singular directions, rare items weighing more so that taste is not popularity.
    matrix = binary_matrix(history).astype(np.float64)
    popularity = np.maximum(np.asarray(matrix.sum(axis=0)).ravel(), 1.0)
    scaled = matrix @ diags_array(1 / np.sqrt(popularity))
    rank = max(1, min(_TASTE_DIMENSIONS, min(scaled.shape) - 1))
    left, values, _ = svds(scaled, k=rank, rng=rng)
    points = left * values
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    centres = points[rng.choice(len(points), num_tenants, replace=False)]
    labels = np.zeros(len(points), dtype=np.int64)
    for _ in range(_ROUNDS):
        labels = np.argmax(points @ centres.T, axis=1)
        for tenant in range(num_tenants):
            members = points[labels == tenant]
            # A tenant left empty takes a user at random: every institution has somebody.
            centre = members.sum(axis=0) if len(members) else points[rng.integers(len(points))]
            centres[tenant] = centre / max(float(np.linalg.norm(centre)), 1e-12)
    for tenant in range(num_tenants):
        if not np.any(labels == tenant):
            crowd = np.flatnonzero(labels == np.argmax(np.bincount(labels)))
            labels[crowd[int(rng.integers(len(crowd)))]] = tenant
    return labels
