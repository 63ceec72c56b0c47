"""A small catalogue, models of it, and the people who publish them, for tests of the registry and of lists."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from httpx2 import Response
from sqlmodel import Session

from platform_api.models.evaluation import KIND
from shared.accounting import PrivacyStatement
from shared.accounting import epsilon as cost
from shared.artifact import Artifact, ArtifactFiles, seal_artifact
from shared.canonical import sha256_hex
from shared.catalogue import CatalogueSnapshot, Item
from shared.errors import CatalogueMismatch
from shared.mechanism import Gaussian
from shared.published import settings_and_tensors
from shared.ranking import FoldIn, RankingModel
from shared.signed_document import sign_document
from tests.platform_cast import API, Person, Shop

NUM_ITEMS = 24
NOISE = (Gaussian(noise_std=5.0, sensitivity=1.0),)


def catalogue_of(version: int = 1, seed: int = 7) -> CatalogueSnapshot:
    features = np.random.default_rng(seed).normal(size=(NUM_ITEMS, 5)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    items = tuple(
        Item(id=f"prd_{number:02}", title=f"课程 {number}", category="maths" if number % 3 else "art")
        for number in range(NUM_ITEMS)
    )
    return CatalogueSnapshot(version=version, items=items, features=features)


CATALOGUE = catalogue_of()


@dataclass
class FixedSnapshots:
    """Snapshots that the service is told of."""

    known: dict[str, CatalogueSnapshot] = field(default_factory=lambda: {CATALOGUE.digest: CATALOGUE})

    def known_digest(self, session: Session, digest: str) -> bool:
        return digest in self.known

    def catalogue(self, session: Session, digest: str) -> CatalogueSnapshot:
        if digest not in self.known:
            raise CatalogueMismatch("no such snapshot")
        return self.known[digest]


def statement(**changes: Any) -> PrivacyStatement:
    fields: dict[str, Any] = {
        "epsilon": cost(NOISE, 1e-6), "delta": 1e-6, "against": "the server, while no tenant works with it",
        "mechanisms": NOISE, "tuned_on_data": False,
    }  # fmt: skip
    return PrivacyStatement(**{**fields, **changes})


def ranking(catalogue: CatalogueSnapshot = CATALOGUE, seed: int = 1) -> RankingModel:
    """A model of the first 16 items; popularity falls from the first on, and the last six have none."""
    weights = np.abs(np.random.default_rng(seed).normal(size=(16, 16))).astype(np.float32)
    np.fill_diagonal(weights, 0)
    return RankingModel(
        catalogue_digest=catalogue.digest,
        recipe="cooccurrence",
        readout="weights",
        popularity=np.maximum(np.linspace(18, -5.0, NUM_ITEMS, dtype=np.float32), 0),
        head=np.arange(16, dtype=np.int32),
        fold_in=FoldIn(recency=0.5, text_weight=0.3),
        item_weights=weights,
    )


def artifact(
    version: int = 1, *, seed: int | None = None, catalogue: CatalogueSnapshot = CATALOGUE, **changes: Any
) -> Artifact:
    settings, tensors = settings_and_tensors(ranking(catalogue, version if seed is None else seed))
    fields: dict[str, Any] = {
        "name": "recommender", "version": version, "created": 1_893_000_000, "recipe": "cooccurrence",
        "catalogue_digest": catalogue.digest, "plan_digest": f"{version:064x}", "settings": settings,
        "privacy": statement(), "tensors": tensors,
    }  # fmt: skip
    return Artifact(**{**fields, **changes})


@dataclass
class Publisher:
    """A trusted key, the program that posts, and the operator who promotes."""

    shop: Shop
    key: Ed25519PrivateKey
    program: Person
    operator: Person
    id: str
    live: str = ""
    posted: dict[int, ArtifactFiles] = field(default_factory=dict)

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def report(self, files: ArtifactFiles, catalogue: CatalogueSnapshot = CATALOGUE, **changes: Any) -> bytes:
        fields = {
            "model_sha256": sha256_hex(files.model), "catalogue_digest": catalogue.digest, "test_set": "held out",
            "num_users": 500, "ndcg_at_10": 50_000, "live_model_sha256": self.live,
            "live_ndcg_at_10": 50_000 if self.live else 0,
        }  # fmt: skip
        return sign_document(KIND, {**fields, **changes}, self.key)

    def post(
        self, files: ArtifactFiles, report: bytes | None, *, name: str = "recommender", by: Person | None = None
    ) -> Response:
        parts = {"manifest": files.manifest, "model": files.model, **({"evaluation": report} if report else {})}
        sent = {part: (part, data, "application/octet-stream") for part, data in parts.items()}
        return self.shop.http.post(f"{API}/models/{name}/candidates", files=sent, headers=(by or self.program).headers)

    def offer(self, made: Artifact, catalogue: CatalogueSnapshot = CATALOGUE, **report: Any) -> Response:
        """Seal, report and post."""
        files = seal_artifact(made, self.key)
        self.posted[made.version] = files
        return self.post(files, self.report(files, catalogue, **report))

    def promote(self, version: int, to: str = "live") -> Response:
        answer = self.operator.post(f"/models/recommender/versions/{version}/promote", {"to": to})
        if answer.status_code == 200 and to == "live":
            self.live = sha256_hex(self.posted[version].model)
        return answer

    def make_live(self, version: int = 1, **changes: Any) -> None:
        offered = self.offer(artifact(version, **changes), changes.get("catalogue", CATALOGUE))
        assert offered.json()["state"] == "candidate", offered.text
        assert self.promote(version).status_code == 200


def publisher_of(shop: Shop) -> Publisher:
    """Registers a fresh key; snapshots are those of the tests."""
    shop.app.state.snapshots = FixedSnapshots()
    key = Ed25519PrivateKey.generate()
    operator = shop.register(None, "platform-operator")
    wish = {"name": "aggregation", "public_key": key.public_key().public_bytes_raw().hex()}
    made = operator.post("/model-publishers", wish)
    assert made.status_code == 201, made.text
    return Publisher(shop, key, shop.machine("models:publish"), operator, made.json()["id"])
