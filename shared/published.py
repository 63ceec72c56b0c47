"""A ranking model inside a published artifact: which tensor and setting holds what, written and read here."""

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.artifact import Artifact
from shared.errors import ArtifactRejected
from shared.ranking import FoldIn, RankingModel

_TENSORS = {
    "popularity": np.float32,
    "head": np.int32,
    "item_weights": np.float32,
    "item_columns": np.int32,
    "item_factors": np.float32,
}


def settings_and_tensors(model: RankingModel) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What goes into `Artifact.settings` and `Artifact.tensors`; `ranking_model` is the inverse."""
    tensors = {name: getattr(model, name) for name in _TENSORS if getattr(model, name) is not None}
    return {"readout": model.readout, "fold_in": vars(model.fold_in)}, tensors


def ranking_model(artifact: Artifact) -> RankingModel:
    """The model that an artifact holds. Raises ArtifactRejected for one that this version cannot rank with."""
    try:
        unknown = set(artifact.tensors) - set(_TENSORS)
        if unknown:
            raise ValueError(f"unknown tensors {', '.join(sorted(unknown))}")
        for name, tensor in artifact.tensors.items():
            if tensor.dtype != _TENSORS[name]:
                raise ValueError(f"tensor {name} must be {np.dtype(_TENSORS[name])}, got {tensor.dtype}")
        settings = dict(artifact.settings["fold_in"])
        if set(settings) != {entry.name for entry in fields(FoldIn)}:
            raise ValueError("fold_in settings are not those of this version")
        return RankingModel(
            catalogue_digest=artifact.catalogue_digest,
            recipe=artifact.recipe,
            readout=artifact.settings["readout"],
            fold_in=FoldIn(**settings),
            **artifact.tensors,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactRejected(f"model {artifact.name} version {artifact.version} cannot be used: {error}") from error
