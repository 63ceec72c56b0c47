"""What goes over the wire about models."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from platform_api.accounts.schemas import Name

State = Literal["candidate", "shadow", "live", "retired", "refused"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewPublisher(_Strict):
    """A key to trust."""

    name: Name = Field(examples=["Aggregation server, Hangzhou"])
    public_key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="Ed25519 public key in hex",
        examples=["d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"],
    )


class PublisherEntry(BaseModel):
    """A publisher. Clients pin its key."""

    id: str
    name: str
    public_key: str
    registered_at: datetime
    revoked_at: datetime | None


class Promotion(_Strict):
    """Where a version goes: live, or into the shadow, where it is only compared with the live one."""

    to: Literal["live", "shadow"] = "live"


class ReasonEntry(BaseModel):
    """Why a model was refused."""

    code: str = Field(examples=["privacy-understated"])
    detail: str


class VersionEntry(BaseModel):
    """One version of a model."""

    name: str
    version: int
    state: State
    reasons: list[ReasonEntry]
    publisher_id: str
    manifest_sha256: str
    model_sha256: str
    model_bytes: int
    catalogue_digest: str
    recipe: str
    evaluation: dict[str, Any] | None = Field(description="the publisher's report; NDCG in millionths")
    posted_at: datetime


class EventEntry(BaseModel):
    """Something that happened to a version. previous_version: which one was live before."""

    number: int
    version: int
    previous_version: int | None
    kind: Literal["posted", "refused", "shadowed", "promoted", "rolled-back"]
    at: datetime
