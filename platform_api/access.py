"""Who may call what. Every route declares one rule; a test walks OpenAPI and fails where one is missing.

A person has roles and the scopes that go with them; a machine of a tenant or a researcher has the scopes it was
enrolled with. What belongs to another tenant, or to another learner, is answered as if it did not exist.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Request

from platform_api.problems import Problem
from platform_api.rates import count_write

Role = Literal["learner", "creator", "reviewer", "tenant-operator", "platform-operator", "researcher"]
ROLES: tuple[Role, ...] = ("learner", "creator", "reviewer", "tenant-operator", "platform-operator", "researcher")
Scope = Literal["fl:join", "catalog:write", "models:publish"]
SCOPES: tuple[Scope, ...] = ("fl:join", "catalog:write", "models:publish")
SCOPES_OF_ROLES: dict[Role, frozenset[Scope]] = {
    "learner": frozenset(),
    "creator": frozenset({"catalog:write"}),
    "reviewer": frozenset(),
    "tenant-operator": frozenset({"fl:join", "catalog:write"}),
    "platform-operator": frozenset(SCOPES),
    "researcher": frozenset(),
}


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who is calling. kind: a person (user_id) or a machine (client_id); tenant_id: "" for those of none."""

    kind: Literal["person", "machine"]
    id: str
    roles: frozenset[Role]
    scopes: frozenset[Scope]
    tenant_id: str
    family: str = ""

    def has(self, role: Role) -> bool:
        return role in self.roles


@dataclass(frozen=True, kw_only=True)
class Rule:
    """public, or: at least one of the roles and all of the scopes; no roles means any role.

    only_as_machine: those of the roles that let a program in and no person.
    """

    public: bool = False
    roles: tuple[Role, ...] = ()
    scopes: tuple[Scope, ...] = ()
    people_only: bool = False
    machines_only: bool = False
    only_as_machine: tuple[Role, ...] = ()

    def allows(self, caller: Caller | None) -> bool:
        """Whether this caller meets the rule."""
        if self.public:
            return True
        if caller is None or (self.people_only and caller.kind != "person"):
            return False
        if self.machines_only and caller.kind != "machine":
            return False
        roles = set(self.roles) - (set(self.only_as_machine) if caller.kind == "person" else set())
        return (not self.roles or bool(caller.roles & roles)) and set(self.scopes) <= caller.scopes

    def describe(self) -> dict[str, Any]:
        """For OpenAPI's `x-access`."""
        if self.public:
            return {"public": True}
        return {
            "roles": list(self.roles or ROLES),
            "scopes": list(self.scopes),
            "people_only": self.people_only,
            "machines_only": self.machines_only,
            "only_as_machine": list(self.only_as_machine),
        }


PUBLIC = Rule(public=True)
ANY_PERSON = Rule(people_only=True)
OPERATORS = Rule(roles=("platform-operator",), people_only=True)


# In a thread, for it asks the database. A dependency that does not is a coroutine, which costs no change of threads.
def _caller(request: Request) -> Caller | None:
    # Set by `identify`, which accounts registers: how callers are known is that feature's business.
    identify: Callable[[Request], Caller | None] = request.app.state.identify
    if not hasattr(request.state, "caller"):
        request.state.caller = identify(request)
        # Every route's rule asks for the caller first, so a request too many opens no transaction that writes.
        if request.state.caller is not None:
            count_write(request, request.state.caller.id)
    caller: Caller | None = request.state.caller
    return caller


def access(rule: Rule) -> dict[str, Any]:
    """Arguments of a route decorator that enforce the rule and state it in OpenAPI: `@router.get(..., **access(R))`."""

    async def enforce(caller: Annotated[Caller | None, Depends(_caller)]) -> None:
        if rule.allows(caller):
            return
        if caller is None:
            raise Problem("not-authenticated", headers={"WWW-Authenticate": "Bearer"})
        wanted = [*(rule.roles and [f"one of the roles {', '.join(rule.roles)}"]), *(f"scope {s}" for s in rule.scopes)]
        if rule.people_only or rule.machines_only:
            wanted.append("a person, not a program" if rule.people_only else "a program, not a person")
        raise Problem("forbidden", f"this needs {' and '.join(wanted)}")

    extra: dict[str, Any] = {"x-access": rule.describe()}
    if not rule.public:
        extra["security"] = [{"bearer": []}]
    return {"dependencies": [Depends(enforce)], "openapi_extra": extra}


async def _known_caller(caller: Annotated[Caller | None, Depends(_caller)]) -> Caller:
    if caller is None:
        raise Problem("not-authenticated", headers={"WWW-Authenticate": "Bearer"})
    return caller


KnownCaller = Annotated[Caller, Depends(_known_caller)]
MaybeCaller = Annotated[Caller | None, Depends(_caller)]
