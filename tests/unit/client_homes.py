"""Small homes, plans and models for the tests of the client."""

from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.home import ClientHome
from client.policy import LocalPolicy, PinnedHelper
from shared.accounting import PrivacyStatement
from shared.artifact import MANIFEST_FILE, MODEL_FILE, Artifact, seal_artifact
from shared.catalogue import CatalogueSnapshot, Item
from shared.mechanism import Gaussian
from shared.plan import CooccurrencePlan, ReconPlan, TrainingPlan, make_plan
from shared.published import settings_and_tensors
from shared.ranking import FoldIn, RankingModel
from shared.roster import Member, Roster
from shared.sealing_certificate import SealingCertificate, certify_sealing_key

HELPER_KEYS = {
    name: Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32)) for name in ("north", "south", "east")
}
PINS = {name: PinnedHelper(signing=key.public_key().public_bytes_raw().hex()) for name, key in HELPER_KEYS.items()}


def certified(name: str, key: str, signing_key: Ed25519PrivateKey) -> SealingCertificate:
    """A certificate of a sealing key that outlasts every test."""
    return certify_sealing_key(name, key, not_before=0, not_after=2**40, signing_key=signing_key)


ROSTER = Roster(
    entries=tuple(
        Member(
            name=name, signing_key=PINS[name].signing, sealing=certified(name, digit * 64, HELPER_KEYS[name]),
            roles=("tenant", "helper"), not_before=0, not_after=2**40,
        )
        for name, digit in (("north", "2"), ("south", "4"), ("east", "6"))
    ),
    epoch=1,
    issued_at=0,
    expires_at=2**40,
)  # fmt: skip


def make_catalogue(num_items: int = 12, version: int = 1) -> CatalogueSnapshot:
    items = tuple(Item(id=f"course-{n}", title=f"Course {n}") for n in range(num_items))
    return CatalogueSnapshot(version=version, items=items, features=np.zeros((num_items, 0), dtype=np.float32))


CATALOGUE = make_catalogue()


def make_policy(**changes: Any) -> LocalPolicy:
    fields: dict[str, Any] = {"name": "north", "epsilon": 4.0, "delta": 1e-5, "declared_users": 500, "helpers": PINS}
    return LocalPolicy(**{**fields, **changes})


def make_home(folder: Path, catalogue: CatalogueSnapshot = CATALOGUE, **changes: Any) -> ClientHome:
    return ClientHome.create(folder / "home", policy=make_policy(**changes), catalogue=catalogue)


def cooccurrence(**changes: Any) -> TrainingPlan:
    recipe = CooccurrencePlan(num_head_items=8, gamma=0.5, max_head_items_per_user=8)
    return _plan(recipe, **changes)


def pairwise(**changes: Any) -> TrainingPlan:
    fields: dict[str, Any] = {
        "topology": "pairwise", "helpers": (), "noise": "shared", "num_parties": 5, "degree": 4, "threshold": 3,
        "colluding": 1, "min_tenants": 4,
    }  # fmt: skip
    return cooccurrence(**{**fields, **changes})


def recon(**changes: Any) -> TrainingPlan:
    recipe = ReconPlan(
        num_factors=4, num_rounds=2, num_head_items=8, max_items_per_user=8, ridge=1.0, negative_weight=0.1,
        learning_rate=1.0, momentum=0.5, init_seed=1, init_std=0.1, max_grad_norm=1.0,
    )  # fmt: skip
    return _plan(recipe, **changes)


def _plan(recipe: CooccurrencePlan | ReconPlan, **changes: Any) -> TrainingPlan:
    fields: dict[str, Any] = {
        "job_id": "job-1", "recipe": recipe, "catalogue_digest": CATALOGUE.digest, "num_items": CATALOGUE.num_items,
        "epsilon": 1.0, "delta": 1e-6, "noise": "helpers", "popularity_share": 0.1, "min_tenants": 3, "min_users": 200,
        "max_users": 2_000, "bits": 32, "helpers": ("north", "south"),
    }  # fmt: skip
    return make_plan(**{**fields, **changes})


def make_artifact(catalogue: CatalogueSnapshot = CATALOGUE, **changes: Any) -> Artifact:
    size = catalogue.num_items
    weights = np.zeros((size, size), dtype=np.float32)
    weights[np.arange(size), (np.arange(size) + 1) % size] = 1.0  # having n speaks for n + 1
    model = RankingModel(
        catalogue_digest=catalogue.digest,
        recipe="cooccurrence",
        readout="weights",
        popularity=np.linspace(1, 0, size, dtype=np.float32),
        head=np.arange(size, dtype=np.int32),
        fold_in=FoldIn(recency=0.5),
        item_weights=weights,
    )
    settings, tensors = settings_and_tensors(model)
    privacy = PrivacyStatement(
        epsilon=1.0, delta=1e-6, against="server", mechanisms=(Gaussian(noise_std=5.0, sensitivity=1.0),),
        tuned_on_data=False,
    )  # fmt: skip
    fields: dict[str, Any] = {
        "name": "courses", "version": 3, "created": 1_700_000_000, "recipe": "cooccurrence",
        "catalogue_digest": catalogue.digest, "plan_digest": "0" * 64, "settings": settings, "privacy": privacy,
        "tensors": tensors,
    }  # fmt: skip
    return Artifact(**{**fields, **changes})


def write_artifact(folder: Path, artifact: Artifact, key: Ed25519PrivateKey) -> Path:
    files = seal_artifact(artifact, key)
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(files.model)
    (folder / MANIFEST_FILE).write_bytes(files.manifest)
    return folder
