"""The generated marketplace as products on sale: one transaction of rows, as the services would have left them."""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert
from sqlmodel import Session

from platform_api.access import Role
from platform_api.accounts import service as accounts
from platform_api.accounts.schemas import Registration
from platform_api.accounts.tables import Tenant
from platform_api.append_only import table_of
from platform_api.catalogue.tables import Category, ConsultingSlot, Product, ProductVersion
from platform_api.columns import new_id
from platform_api.consents.schemas import NewPolicy
from platform_api.consents.service import publish_policy
from platform_api.database import Database
from platform_api.operations.sample import POLICY_EN, POLICY_ZH
from platform_api.search.index import row_of
from platform_api.search.tables import SearchDocument
from shared.catalogue import Item
from simulations.marketplace import Marketplace
from simulations.marketplace_words import SUBJECTS

SLOTS_A_CONSULTATION = 2
Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class LogIn:
    """An account of the demonstration. who: in words."""

    who: str
    email: str
    password: str


@dataclass(frozen=True, kw_only=True)
class Stocked:
    """tenants: ids by name. log_ins: the operator first, then a creator for each institution."""

    tenants: dict[str, str]
    log_ins: tuple[LogIn, ...]


def stock(database: Database, market: Marketplace, *, seed: int, now: datetime) -> Stocked:
    """Put people, tenants, categories and products into an empty, migrated database; all in one transaction.

    Products have the items' ids and came on sale in the items' order, a second apart: so does the snapshot list them.
    """
    rng = np.random.default_rng([seed, 7])
    with database.writing() as session:
        tenants = {tenant.name: new_id("tnt") for tenant in market.tenants}
        session.add_all(Tenant(id=tenant_id, name=name, created_at=now) for name, tenant_id in tenants.items())
        session.flush()
        operator = _account(session, "platform operator", "operator", frozenset({"platform-operator"}), None, now)
        creators = [
            _account(session, f"creator of {name}", name, frozenset({"creator", "tenant-operator"}), tenant_id, now)
            for name, tenant_id in tenants.items()
        ]
        publish_policy(session, NewPolicy(text_zh=POLICY_ZH, text_en=POLICY_EN), now)
        categories = [
            {"slug": _slug(english), "parent_slug": None, "name_zh": chinese, "name_en": english, "revision": 1}
            for (chinese, english), _ in SUBJECTS
        ]
        owners = list(zip([user_id for user_id, _ in creators], tenants.values(), strict=True))
        tables = _products(market, rng, owners, now)
        for table, rows in {Category: categories, **tables}.items():
            session.connection().execute(insert(table_of(table)), rows)
    return Stocked(tenants=tenants, log_ins=(operator[1], *(log_in for _, log_in in creators)))


def _account(
    session: Session, who: str, name: str, roles: frozenset[Role], tenant_id: str | None, now: datetime
) -> tuple[str, LogIn]:
    log_in = LogIn(who=who, email=f"{name}@example.org", password=secrets.token_urlsafe(12))
    wish = Registration(email=log_in.email, password=log_in.password, display_name=name, language="en")
    user = accounts.register(session, wish, now, accounts.hash_of(wish.password))
    session.flush()
    accounts.set_roles(session, user.id, roles, tenant_id)
    session.flush()
    return user.id, log_in


def _products(
    market: Marketplace, rng: np.random.Generator, owners: list[tuple[str, str]], now: datetime
) -> dict[Any, Rows]:
    products, versions, documents, slots = Rows(), Rows(), Rows(), Rows()
    names = {chinese: (_slug(english), f"{chinese} {english}") for (chinese, english), _ in SUBJECTS}
    start = now - timedelta(days=1, seconds=len(market.items))
    for number, (item, kind) in enumerate(zip(market.items, market.kinds, strict=True)):
        at, (user_id, tenant_id) = start + timedelta(seconds=number), owners[number % len(owners)]
        slug, path = names[item.category]
        products.append({
            "id": item.id, "kind": kind, "user_id": user_id, "tenant_id": tenant_id, "current_version": 1,
            "revision": 3, "created_at": at, "first_published_at": at, "archived_at": None,
        })  # fmt: skip
        versions.append(_version(item, slug, 100 * int(rng.integers(19, 400)), at))
        documents.append(row_of(item.id, item.title, path, item.text))
        if kind == "consulting":
            slots += [_slot(item, now + timedelta(days=1 + day)) for day in range(SLOTS_A_CONSULTATION)]
    rows = {Product: products, ProductVersion: versions, SearchDocument: documents}
    return {**rows, ConsultingSlot: slots} if slots else dict(rows)


def _version(item: Item, slug: str, price_minor: int, at: datetime) -> dict[str, Any]:
    return {
        "product_id": item.id, "number": 1, "state": "published", "title": item.title, "description": item.text,
        "content": f"# {item.title}\n\n{item.text}", "language": item.language, "category": slug,
        "price_minor": price_minor, "currency": "CNY", "review_note": "", "created_at": at, "submitted_at": at,
        "published_at": at,
    }  # fmt: skip


def _slot(item: Item, starts_at: datetime) -> dict[str, Any]:
    ends_at = starts_at + timedelta(minutes=50)
    return {"id": new_id("slt"), "product_id": item.id, "starts_at": starts_at, "ends_at": ends_at}


def _slug(english: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", english.lower()).strip("-")
