"""Snapshots as a feature. They hold public text and nothing of a person."""

from platform_api.features import Feature
from platform_api.snapshots.routes import snapshots

SNAPSHOTS = Feature(name="snapshots", routers=(snapshots,))
