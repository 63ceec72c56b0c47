"""Who may read what was sold. The catalogue and the reviews ask; whoever keeps purchases answers.

`app.state.is_entitled` holds the answer in use.
"""

from typing import Annotated, Protocol

from fastapi import Depends, Request
from sqlmodel import Session


class IsEntitled(Protocol):
    """Whether a person holds a purchase of a version of a product; of any version where it is None."""

    def __call__(self, session: Session, user_id: str, product_id: str, version: int | None) -> bool: ...


async def _is_entitled(request: Request) -> IsEntitled:
    check: IsEntitled = request.app.state.is_entitled
    return check


Entitlement = Annotated[IsEntitled, Depends(_is_entitled)]
