"""The live model in memory. Which one it is, is asked of the database at every request; it is loaded once a process.

A file that is damaged is refused, and the version before it goes on, with an alarm: a log line and a count.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Histogram
from sqlmodel import Session

from platform_api.models import queries
from platform_api.models.files import ArtifactStore
from platform_api.models.snapshots_port import Snapshots
from platform_api.models.tables import ModelPublisher, ModelVersion
from shared.artifact import ArtifactFiles, open_artifact
from shared.catalogue import CatalogueSnapshot
from shared.errors import ZhiyinError
from shared.published import ranking_model
from shared.ranking import RankingModel

_KEPT = 4
_RETRY_SECONDS = 30.0
_Key = tuple[str, int, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A verified model with the catalogue that it ranks. degraded: it stands in for a live one that cannot be read."""

    name: str
    version: int
    digest: str
    model: RankingModel
    catalogue: CatalogueSnapshot
    degraded: bool = False

    @cached_property
    def _categories(self) -> NDArray[np.str_]:
        return np.array([item.category for item in self.catalogue.items])

    def of_category(self, category: str | None) -> NDArray[np.bool_]:
        """Which items are of a category, bool (num_items,); None: all."""
        if category is None:
            return np.ones(self.catalogue.num_items, dtype=np.bool_)
        return np.asarray(self._categories == category)


class LiveModels:
    """Models by (name, version, digest). Safe for threads; the routes that ask run in worker threads."""

    def __init__(
        self, store: ArtifactStore, registry: CollectorRegistry, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._monotonic = store, monotonic
        self._lock = threading.Lock()
        self._loaded: OrderedDict[_Key, Loaded] = OrderedDict()
        self._failed: dict[_Key, float] = {}
        self.overlap = Histogram(
            "zhiyin_shadow_overlap",
            "Share of a served list that the shadow model's list has too",
            ("name",),
            buckets=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
            registry=registry,
        )
        self.loads = Counter("zhiyin_model_loads", "Models loaded into memory", ("name",), registry=registry)
        self.failures = Counter(
            "zhiyin_model_load_failures", "Live models that could not be loaded", ("name",), registry=registry
        )

    def current(self, session: Session, snapshots: Snapshots, name: str) -> Loaded | None:
        """The live model; the one before it where that cannot be read; None where there is none to go on with."""
        for place, row in enumerate(queries.live_and_before(session, name)):
            found = self.version(session, snapshots, row)
            if found is not None:
                return found if place == 0 else replace(found, degraded=True)
        return None

    def version(self, session: Session, snapshots: Snapshots, row: ModelVersion) -> Loaded | None:
        """One version; None, with an alarm, where it cannot be read."""
        key = (row.name, row.version, row.manifest_sha256)
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
                return self._loaded[key]
            if self._monotonic() - self._failed.get(key, float("-inf")) < _RETRY_SECONDS:
                return None
            try:
                found = self._load(session, snapshots, row)
            except (OSError, ZhiyinError) as error:
                self._failed[key] = self._monotonic()
                self.failures.labels(row.name).inc()
                structlog.get_logger("platform").error(
                    "live model refused", model=row.name, version=row.version, error=type(error).__name__
                )
                return None
            self._failed.pop(key, None)
            self._loaded[key] = found
            while len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
            self.loads.labels(row.name).inc()
            return found

    def _load(self, session: Session, snapshots: Snapshots, row: ModelVersion) -> Loaded:
        publisher = session.get_one(ModelPublisher, row.publisher_id)
        catalogue = snapshots.catalogue(session, row.catalogue_digest)
        files = ArtifactFiles(model=self._store.read(row.model_sha256), manifest=self._store.read(row.manifest_sha256))
        artifact = open_artifact(
            files, publisher_public_key=bytes.fromhex(publisher.public_key), catalogue_digest=catalogue.digest
        )
        return Loaded(
            name=row.name,
            version=row.version,
            digest=row.manifest_sha256,
            model=ranking_model(artifact),
            catalogue=catalogue,
        )
