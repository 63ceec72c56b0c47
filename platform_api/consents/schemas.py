"""What goes over the wire about consent."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from platform_api.consents.purposes import Purpose

PolicyText = Annotated[
    str, StringConstraints(min_length=1, max_length=100_000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewPolicy(_Strict):
    """The next version of the policy."""

    text_zh: PolicyText = Field(examples=["我们用你的购买记录……"])
    text_en: PolicyText = Field(examples=["Your purchases are used to ..."])


class PolicyEntry(BaseModel):
    """One version."""

    version: int
    text_zh: str
    text_en: str
    published_at: datetime


class ConsentChange(_Strict):
    """Purposes to give (true) or withdraw (false). policy_version: the version that the person was shown."""

    purposes: Annotated[dict[Purpose, StrictBool], Field(min_length=1)] = Field(examples=[{"training": True}])
    policy_version: Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)] = Field(examples=[1])


class ConsentEntry(BaseModel):
    """Consent for one purpose. state: stale when it was given to an earlier version and has to be given anew."""

    purpose: Purpose
    state: Literal["given", "withdrawn", "stale", "never-given"]
    policy_version: int | None
    at: datetime | None


class Consents(BaseModel):
    """All purposes, and the version of the policy that holds now; null before the first one."""

    policy_version: int | None
    consents: list[ConsentEntry]


class ReceiptEntry(BaseModel):
    """One receipt."""

    number: int
    purpose: Purpose
    given: bool
    policy_version: int
    at: datetime


class Erasure(_Strict):
    """The password once more: erasing cannot be undone."""

    password: Annotated[str, StringConstraints(max_length=200)]


class Erased(BaseModel):
    """Everything of the person was removed or made nobody's."""

    erased_at: datetime
    features: list[str]
