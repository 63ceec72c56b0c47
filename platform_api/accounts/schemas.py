"""What goes over the wire about accounts."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from platform_api.access import SCOPES, Role, Scope

Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, to_lower=True, max_length=254, pattern=r"^[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,189}$"
    ),
]
Password = Annotated[str, StringConstraints(min_length=10, max_length=200)]
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Registration(_Strict):
    """A new learner."""

    email: Email = Field(examples=["mei@example.org"])
    password: Password = Field(examples=["correct horse battery"])
    display_name: Name = Field(examples=["梅"])
    language: Literal["zh-CN", "en"] = "zh-CN"


class Profile(BaseModel):
    """A person as they see themselves."""

    id: str
    email: str | None
    display_name: str
    language: str
    roles: list[Role]
    tenant_id: str | None
    created_at: datetime


class ProfileChange(_Strict):
    """Fields to change; what is left out stays."""

    display_name: Name | None = None
    language: Literal["zh-CN", "en"] | None = None


class PasswordChange(_Strict):
    """Ends every log-in."""

    old_password: Annotated[str, StringConstraints(max_length=200)]
    new_password: Password


class Tokens(BaseModel):
    """Answer of RFC 6749, sec. 5.1. refresh_token only for people."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int
    refresh_token: str | None = None
    scope: str


class Roles(_Strict):
    """All roles of a person; learner always stays. tenant_id: left out, the tenant stays; null takes it away."""

    roles: Annotated[list[Role], Field(max_length=6)]
    tenant_id: Annotated[str, StringConstraints(max_length=64)] | None = None


class NewTenant(_Strict):
    """A partner to enrol."""

    name: Name = Field(examples=["Hangzhou Open University"])


class TenantEntry(BaseModel):
    """A partner."""

    id: str
    name: str
    created_at: datetime


class NewClient(_Strict):
    """A program of a tenant, or of a researcher where tenant_id is left out."""

    name: Name
    tenant_id: Annotated[str, StringConstraints(max_length=64)] | None = None
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(SCOPES))]


class ClientEntry(BaseModel):
    """A program that may log in by itself."""

    id: str
    name: str
    role: Role
    tenant_id: str | None
    scopes: list[Scope]
    created_at: datetime
    revoked_at: datetime | None


class ClientCredentials(ClientEntry):
    """Shown once: the secret is not kept."""

    client_secret: str
