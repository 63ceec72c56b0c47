"""What goes over the wire about invitations."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class NewInvitation(BaseModel):
    """How long somebody may join with it."""

    model_config = ConfigDict(extra="forbid")

    days: Annotated[int, Field(ge=1, le=90)] = 14


class SignedInvitation(BaseModel):
    """The file for `zhiyin client join`. Nothing in it is secret."""

    kind: str = Field(examples=["zhiyin-invitation-1"])
    fields: dict[str, Any]
    signature: str = Field(description="Ed25519, by the platform's own key")
