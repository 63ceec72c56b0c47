"""What goes over the wire about recommendations."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from platform_api.recommendations.sentences import Reason


class Entry(BaseModel):
    """One item of a list. because_of: the buyer's own item that spoke for it."""

    product_id: str
    title: str
    category: str
    reason: Reason
    because_of: str | None
    sentence: str = Field(examples=["many people have it"])


class ModelUsed(BaseModel):
    """The model that a list comes from. degraded: it stands in for a live one that cannot be read."""

    name: str
    version: int
    digest: str
    degraded: bool


class RecommendationList(BaseModel):
    """A list, best first. personalised: whether anything of the caller was used for it."""

    items: list[Entry]
    personalised: bool
    model: ModelUsed | None = Field(description="null: no model is live, and the items are the newest")


class FoldedIn(BaseModel):
    """What of the caller was used."""

    purchases: int
    left_out_for_low_rating: int
    left_out_for_other_catalogue: int
    folded_in: int


class Stages(BaseModel):
    """How many items were left after each stage."""

    candidates: int = Field(description="items that the model ranks, of the category")
    after_owned: int
    after_availability: int
    after_diversity: int = Field(description="chosen from the model's ranking")
    new: int = Field(description="added because the ranking had too few")


class Explanation(BaseModel):
    """How a list came about."""

    model: ModelUsed | None
    consent: bool = Field(description="to personalisation, under the policy that holds now")
    switched_on: bool = Field(description="the caller's own switch")
    personalised: bool
    history: FoldedIn
    stages: Stages
    diversity: float
    items: list[Entry]


class Switch(BaseModel):
    """Whether lists may be personal. Off: the caller gets the list that everybody gets."""

    model_config = ConfigDict(extra="forbid")

    personalised: StrictBool


class SwitchState(BaseModel):
    """The switch, and what it needs beside it."""

    personalised: bool
    consent: bool
    effect: Literal["personal", "same-for-all"]
