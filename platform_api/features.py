"""What a feature is to the service: routes, and the duty to hand out and to erase what it keeps of a person.

A table with a column that names a user must be listed by the feature that owns it: a test compares.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from sqlmodel import Session, SQLModel


def _nothing(session: Session, user_id: str) -> dict[str, Any]:
    return {}


def _keep(session: Session, user_id: str, now: datetime) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Feature:
    """export(session, user_id): everything kept of a person, as JSON values under names of the feature.

    pages: routes for people, outside the API's address.
    erase(session, user_id, now): removes it, or makes it nobody's where law asks that records stay (money).
    """

    name: str
    routers: tuple[APIRouter, ...]
    pages: tuple[APIRouter, ...] = ()
    personal_tables: tuple[type[SQLModel], ...] = ()
    export: Callable[[Session, str], dict[str, Any]] = _nothing
    erase: Callable[[Session, str, datetime], None] = _keep
