"""A marketplace of any size, made quickly and always the same for the same seed: for benchmarks and demonstrations.

Rows are written straight into the tables, as the services would have left them: search finds every product, every
paid order has its claim and its journal, and the journals sum to zero.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Table, insert
from sqlmodel import Session

from platform_api.accounts.tables import Tenant, User, UserRole
from platform_api.append_only import table_of
from platform_api.catalogue.queries import note_shelf_change
from platform_api.catalogue.tables import Category, Product, ProductVersion
from platform_api.database import Database
from platform_api.orders.tables import Entitlement, Order, OrderLine
from platform_api.payments.tables import Journal, Posting
from platform_api.search.index import counted
from platform_api.search.tables import SearchDocument
from platform_api.search.tokens import index_word
from shared.errors import BadSetting

_CHUNK = 10_000
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_FEE_BASIS_POINTS = 1_000
_SUBJECTS = ("隐私", "数据", "音乐", "历史", "设计", "语言", "经济", "编程")
_SUBJECTS_EN = ("privacy", "data", "music", "history", "design", "language", "economics", "programming")
_FORMS = ("入门", "进阶", "实践", "原理", "导读", "案例")
_FORMS_EN = ("primer", "workshop", "practice", "principles", "reader", "cases")
Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Volume:
    """How much. seed: any name; orders are dealt so that a few products sell much and most sell little."""

    products: int = 10_000
    users: int = 50_000
    orders: int = 500_000
    tenants: int = 10
    seed: str = "volume"

    def __post_init__(self) -> None:
        for name in ("products", "users", "tenants"):
            if getattr(self, name) < 1:
                raise BadSetting(f"{name} must be at least 1")
        if not 0 <= self.orders <= self.products * self.users // 4:
            raise BadSetting(f"orders must be between 0 and {self.products * self.users // 4}: one a user and product")


def seed_volume(database: Database, volume: Volume, progress: Callable[[str, int], None] | None = None) -> None:
    """Fill an empty database. progress(what, so many more rows). Raises BadSetting where the volume is there already.

    Users have no password: log in as nobody, or make tokens for their ids `usr_00000000…`.
    """
    tell = progress or (lambda what, rows: None)
    rng = np.random.default_rng(list(hashlib.sha256(volume.seed.encode()).digest()))
    prices = rng.integers(10, 400, volume.products) * 100
    owners = rng.integers(0, volume.tenants, volume.products)
    with database.reading() as session:
        if session.get(User, _id("usr", 0)) is not None:
            raise BadSetting("a volume is there already; use an empty database")
    _write(database, "people", _people(volume), tell)
    _write(database, "products", _products(volume, rng, prices, owners), tell)
    with database.writing() as session:
        note_shelf_change(session)
    _write(database, "orders", _orders(volume, rng, prices, owners), tell)


def _write(
    database: Database, what: str, chunks: Iterator[dict[Table, Rows]], tell: Callable[[str, int], None]
) -> None:
    for chunk in chunks:
        with database.writing() as session:
            for table, rows in chunk.items():
                _insert(session, table, rows)
        tell(what, max(len(rows) for rows in chunk.values()))


def _insert(session: Session, table: Table, rows: Rows) -> None:
    if rows:
        session.connection().execute(insert(table), rows)


def _id(prefix: str, number: int) -> str:
    return f"{prefix}_{number:026d}"


def _people(volume: Volume) -> Iterator[dict[Table, Rows]]:
    tenants = [{"id": _id("tnt", n), "name": f"Tenant {n:03d}", "created_at": _EPOCH} for n in range(volume.tenants)]
    categories = [
        {"slug": f"volume-{english}", "parent_slug": None, "name_zh": chinese, "name_en": english, "revision": 1}
        for chinese, english in zip(_SUBJECTS, _SUBJECTS_EN, strict=True)
    ]
    yield {table_of(Tenant): tenants, table_of(Category): categories}
    # The first users, one for each tenant, made its products.
    for start in range(0, volume.users, _CHUNK):
        numbers = range(start, min(start + _CHUNK, volume.users))
        users = [_user(number, volume.tenants) for number in numbers]
        roles = [{"user_id": user["id"], "role": "learner"} for user in users]
        roles += [{"user_id": _id("usr", n), "role": "creator"} for n in numbers if n < volume.tenants]
        yield {table_of(User): users, table_of(UserRole): roles}


def _user(number: int, tenants: int) -> dict[str, Any]:
    return {
        "id": _id("usr", number),
        "email": f"user{number}@example.org",
        "display_name": f"学员{number}",
        "language": "zh-CN" if number % 3 else "en",
        "password_hash": "",
        "tenant_id": _id("tnt", number) if number < tenants else None,
        "created_at": _EPOCH,
        "erased_at": None,
    }


def _products(volume: Volume, rng: np.random.Generator, prices: Any, owners: Any) -> Iterator[dict[Table, Rows]]:
    subjects = rng.integers(0, len(_SUBJECTS), volume.products)
    forms = rng.integers(0, len(_FORMS), volume.products)
    for start in range(0, volume.products, _CHUNK):
        products, versions, documents = [], [], []
        for n in range(start, min(start + _CHUNK, volume.products)):
            at = _EPOCH + timedelta(seconds=n)
            product_id, owner, subject, form = _id("prd", n), int(owners[n]), int(subjects[n]), int(forms[n])
            english = n % 3 == 0
            names = f"{_SUBJECTS[subject]} {_SUBJECTS_EN[subject]}"
            title = (
                f"{_SUBJECTS_EN[subject].title()} {_FORMS_EN[form]} {n}"
                if english
                else (f"{_SUBJECTS[subject]}{_FORMS[form]} {n}")
            )
            description = f"{names}: {_FORMS[form]}, {_FORMS_EN[form]}"
            products.append({
                "id": product_id, "kind": "course" if n % 4 else "e-book", "user_id": _id("usr", owner % volume.users),
                "tenant_id": _id("tnt", owner), "current_version": 1, "revision": 3, "created_at": at,
                "first_published_at": at, "archived_at": None,
            })  # fmt: skip
            versions.append({
                "product_id": product_id, "number": 1, "state": "published", "title": title,
                "description": description, "content": title, "language": "en" if english else "zh-CN",
                "category": f"volume-{_SUBJECTS_EN[subject]}", "price_minor": int(prices[n]), "currency": "CNY",
                "review_note": "", "created_at": at, "submitted_at": at, "published_at": at,
            })  # fmt: skip
            documents.append(_document(product_id, title, names, description))
        yield {table_of(Product): products, table_of(ProductVersion): versions, table_of(SearchDocument): documents}


def _document(product_id: str, title: str, names: str, description: str) -> dict[str, Any]:
    by_token, lengths = counted((title, names, description))
    counts = {index_word(token): by_field for token, by_field in by_token.items()}
    return {
        "product_id": product_id, "words": " ".join(sorted(counts)), "counts": counts, "title_length": lengths[0],
        "category_length": lengths[1], "description_length": lengths[2],
    }  # fmt: skip


def _bought(volume: Volume, rng: np.random.Generator) -> Any:
    # Pairs of user and product, each once: a claim is to one version of one product. Zipf's law with exponent 1.
    weights = 1 / np.arange(1, volume.products + 1)
    weights /= weights.sum()
    pairs = np.empty(0, dtype=np.int64)
    while len(pairs) < volume.orders:
        wanted = int((volume.orders - len(pairs)) * 1.2) + 100
        users = rng.integers(0, volume.users, wanted)
        products = rng.choice(volume.products, wanted, p=weights)
        fresh = np.concatenate([pairs, users * volume.products + products])
        _, first = np.unique(fresh, return_index=True)
        pairs = fresh[np.sort(first)]
    return pairs[: volume.orders]


def _orders(volume: Volume, rng: np.random.Generator, prices: Any, owners: Any) -> Iterator[dict[Table, Rows]]:
    pairs = _bought(volume, rng)
    for start in range(0, volume.orders, _CHUNK):
        chunk: dict[Table, Rows] = {
            table_of(entity): [] for entity in (Order, OrderLine, Entitlement, Journal, Posting)
        }
        for n in range(start, min(start + _CHUNK, volume.orders)):
            user, product = divmod(int(pairs[n]), volume.products)
            _add_order(chunk, n, user, product, int(prices[product]), _id("tnt", int(owners[product])))
        yield chunk


def _add_order(chunk: dict[Table, Rows], n: int, user: int, product: int, price: int, tenant: str) -> None:
    at = _EPOCH + timedelta(days=30, seconds=60 * n)
    order_id, line_id, journal_id = _id("ord", n), _id("lin", n), _id("jrn", n)
    fee = price * _FEE_BASIS_POINTS // 10_000
    shared = {"product_id": _id("prd", product), "version": 1, "slot_id": ""}
    chunk[table_of(Order)].append({
        "id": order_id, "user_id": _id("usr", user), "status": "paid", "total_minor": price, "currency": "CNY",
        "intent_id": _id("int", n), "pay_url": "", "created_at": at, "expires_at": at + timedelta(minutes=30),
        "paid_at": at, "revision": 2,
    })  # fmt: skip
    chunk[table_of(OrderLine)].append({
        **shared, "id": line_id, "order_id": order_id, "position": 0, "kind": "course" if product % 4 else "e-book",
        "title": f"product {product}", "price_minor": price, "fee_minor": fee, "currency": "CNY",
        "seller_tenant_id": tenant, "creator_account_id": "",
    })  # fmt: skip
    chunk[table_of(Entitlement)].append({
        **shared, "id": _id("ent", n), "user_id": _id("usr", user), "status": "active", "line_id": line_id,
        "granted_at": at,
    })  # fmt: skip
    chunk[table_of(Journal)].append({
        "id": journal_id, "kind": "sale", "subject_id": order_id, "order_id": order_id, "posted_at": at,
    })  # fmt: skip
    sides = (("provider-clearing", "", price), ("platform-fee", "", -fee), ("tenant-revenue", tenant, fee - price))
    chunk[table_of(Posting)] += [
        {"journal_id": journal_id, "position": position, "account": account, "tenant_id": whose,
         "creator_account_id": "", "amount_minor": minor, "currency": "CNY"}
        for position, (account, whose, minor) in enumerate(sides)
    ]  # fmt: skip
