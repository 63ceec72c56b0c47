"""What goes over the wire of the privacy ledger."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class ReleaseEntry(BaseModel):
    """One release."""

    number: int
    model: str
    model_version: int
    refused: bool = Field(description="the gate refused the model; its information had been released all the same")
    recipe: str
    plan_digest: str = Field(description="models of one plan share its cost")
    released_at: datetime
    recorded_at: datetime
    epsilon: float | None = Field(description="null: no guarantee", examples=[1.0])
    delta: float = Field(examples=[1e-6])
    against: str = Field(examples=["the server, while no tenant works with it"])
    scope: str
    unit: str
    adjacency: str
    tuned_on_data: bool
    mechanisms: list[dict[str, Any]]


class TotalEntry(BaseModel):
    """All releases of one model family; family null: of all together."""

    family: str | None
    releases: int
    jobs: int
    epsilon: float | None = Field(description="null: none can be stated; `why` says so")
    delta: float
    why: str


class Totals(BaseModel):
    """Composed costs to a user who took part in everything."""

    families: list[TotalEntry]
    all: TotalEntry
