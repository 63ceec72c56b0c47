"""What goes over the wire about snapshots."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class SnapshotEntry(BaseModel):
    """A snapshot of the catalogue. digest: SHA-256 of its file, in hex."""

    version: int = Field(examples=[1])
    digest: str
    num_items: int
    size_bytes: int
    created_at: datetime


class SnapshotView(SnapshotEntry):
    """document: what is signed, with its signature. public_key: of the signer; a client pins it beforehand."""

    public_key: str
    document: dict[str, Any]
