"""A small marketplace in two languages to look at: people, tenants, categories, products on sale, and a policy.

Made through the services, so every rule holds of it. Running it again adds only what is missing.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import TypeAdapter, ValidationError
from sqlmodel import Session, col, select

from platform_api.access import Caller, Role
from platform_api.accounts import service as accounts
from platform_api.accounts.queries import roles_of, tenant_by_name, user_by_email
from platform_api.accounts.schemas import Email, Password, Registration
from platform_api.accounts.tables import Tenant, User
from platform_api.catalogue import categories, service, slots
from platform_api.catalogue.schemas import Kind, Language, NewCategory, NewProduct, NewSlot
from platform_api.catalogue.tables import Category, Product, ProductVersion
from platform_api.columns import new_id
from platform_api.consents.queries import current_policy
from platform_api.consents.schemas import NewPolicy
from platform_api.consents.service import publish_policy
from platform_api.database import Database
from shared.errors import BadSetting

Passwords = Callable[[str], str]
"""The password for a new account, by its e-mail address."""

TENANTS = ("明德书院 Mingde Academy", "North Lake Institute")
CATEGORIES: tuple[tuple[str, str | None, str, str], ...] = (
    ("subjects", None, "学科", "Subjects"),
    ("data", "subjects", "数据科学", "Data science"),
    ("privacy", "data", "隐私保护", "Privacy"),
    ("languages", "subjects", "语言", "Languages"),
    ("music", "subjects", "音乐", "Music"),
    ("work", None, "职业发展", "Work and career"),
)
POLICY_ZH = (
    "使用本平台需要你同意“服务”。在你另外同意“个性化”时，我们用你买过和评价过的内容为你排列推荐，每条推荐都说明原因，你可以随时关闭。"
    "在你另外同意“训练”时，你的记录留在你所属机构，只有加了噪声的总和会离开。你可以随时撤回同意、导出或删除你的数据。"
)
POLICY_EN = (
    "Using this marketplace needs your consent to the service. If you also agree to personalisation, what you bought "
    "and rated orders your recommendations; each one states its reason, and you can turn them off. If you also agree "
    "to training, your records stay with your institution and only sums with noise leave it. You can withdraw, export "
    "or erase at any time."
)


@dataclass(frozen=True, kw_only=True)
class _Person:
    email: str
    name: str
    roles: frozenset[Role]
    tenant: str | None = None
    language: Language = "zh-CN"


_SELLER: frozenset[Role] = frozenset({"creator", "tenant-operator"})
PEOPLE = (
    _Person(email="operator@example.org", name="Operator", roles=frozenset({"platform-operator"}), language="en"),
    _Person(email="reviewer@example.org", name="审核", roles=frozenset({"reviewer"})),
    _Person(
        email="mingde@example.org", name="明德", roles=frozenset({"creator", "tenant-operator"}), tenant=TENANTS[0]
    ),
    _Person(
        email="northlake@example.org",
        name="North Lake",
        roles=_SELLER,
        tenant=TENANTS[1],
        language="en",
    ),
)
# kind, title, description, category, price; the first tenant's, then the second's.
_Product = tuple[Kind, str, str, str, int]
PRODUCTS: dict[str, tuple[_Product, ...]] = {
    "mingde@example.org": (
        ("course", "隐私计算入门", "从差分隐私到联邦学习，十二讲，含练习。", "privacy", 19_900),
        ("course", "推荐系统原理", "协同过滤、排序与评估，用真实数据一步步做。", "data", 24_900),
        ("e-book", "统计学习读本", "写给自学者的统计学习，三百页。", "data", 5_900),
        ("course", "古琴初阶", "从指法到《仙翁操》，附曲谱。", "music", 12_900),
        ("e-book", "汉语写作三十讲", "怎样把一件事写清楚。", "languages", 3_900),
        ("consulting", "论文写作一对一", "五十分钟，带着你的题目来。", "work", 30_000),
    ),
    "northlake@example.org": (
        (
            "course",
            "Differential privacy in practice",
            "Budgets, mechanisms, mistakes and code.",
            "privacy",
            22_900,
        ),
        ("course", "Learning from data that stays home", "Federated learning for institutions.", "data", 26_900),
        ("e-book", "Reading Chinese", "Two hundred short texts with notes.", "languages", 4_900),
        ("e-book", "Music theory for listeners", "Hearing form, harmony and time.", "music", 0),
        ("course", "Writing for engineers", "Documents that somebody wants to read.", "work", 9_900),
        ("consulting", "Career conversation", "Fifty minutes with an editor of your choice.", "work", 28_000),
    ),
}


@dataclass(kw_only=True)
class Seeded:
    """What was added. passwords: of new accounts, by address: kept nowhere else."""

    tenants: int = 0
    categories: int = 0
    products: int = 0
    policy: bool = False
    passwords: dict[str, str] = field(default_factory=dict)


def one_time_password(email: str) -> str:
    """A password of 128 random bits."""
    return secrets.token_urlsafe(16)


def seed_sample(database: Database, now: datetime, passwords: Passwords = one_time_password) -> Seeded:
    """Add what is missing of the sample, in one transaction. Raises BadSetting for a password that is too short."""
    added = Seeded()
    with database.writing() as session:
        for name in TENANTS:
            if tenant_by_name(session, name) is None:
                session.add(Tenant(id=new_id("tnt"), name=name, created_at=now))
                added.tenants += 1
        session.flush()
        for person in PEOPLE:
            _add_person(session, person, now, passwords, added)
        for slug, parent, chinese, english in CATEGORIES:
            if session.get(Category, slug) is None:
                wish = NewCategory(slug=slug, parent_slug=parent, name_zh=chinese, name_en=english)
                categories.add_category(session, wish)
                added.categories += 1
        for email, products in PRODUCTS.items():
            for number, product in enumerate(products):
                _add_product(session, email, product, now + timedelta(seconds=number), added)
        if current_policy(session) is None:
            publish_policy(session, NewPolicy(text_zh=POLICY_ZH, text_en=POLICY_EN), now)
            added.policy = True
    return added


def make_operator(
    database: Database, email: str, now: datetime, passwords: Passwords = one_time_password
) -> str | None:
    """Give the platform's operator role; a new account's password, None where the account was there."""
    try:
        address = TypeAdapter(Email).validate_python(email)
    except ValidationError:
        raise BadSetting("the e-mail address is none; give one like mei@example.org") from None
    with database.writing() as session:
        known = user_by_email(session, address)
        password = None
        if known is None:
            password = _checked(passwords(address))
            wish = Registration(email=address, password=password, display_name="Operator", language="en")
            known = accounts.register(session, wish, now, accounts.hash_of(wish.password))
            session.flush()
        roles: frozenset[Role] = roles_of(session, known.id) | frozenset[Role]({"platform-operator"})
        accounts.set_roles(session, known.id, roles, known.tenant_id)
    return password


def _checked(password: str) -> str:
    try:
        return TypeAdapter(Password).validate_python(password)
    except ValidationError:
        raise BadSetting("a password has 10 to 200 characters") from None


def _add_person(session: Session, person: _Person, now: datetime, passwords: Passwords, added: Seeded) -> None:
    if user_by_email(session, person.email) is not None:
        return
    password = _checked(passwords(person.email))
    wish = Registration(email=person.email, password=password, display_name=person.name, language=person.language)
    user = accounts.register(session, wish, now, accounts.hash_of(wish.password))
    session.flush()
    tenant = None if person.tenant is None else tenant_by_name(session, person.tenant)
    accounts.set_roles(session, user.id, person.roles, None if tenant is None else tenant.id)
    session.flush()
    added.passwords[person.email] = password


def _add_product(session: Session, email: str, product: _Product, now: datetime, added: Seeded) -> None:
    kind, title, description, category, price = product
    creator, reviewer = _caller(session, email), _caller(session, "reviewer@example.org")
    there = select(ProductVersion.product_id).join(Product, col(Product.id) == col(ProductVersion.product_id))
    if session.exec(there.where(col(Product.user_id) == creator.id, col(ProductVersion.title) == title)).first():
        return
    language: Language = "en" if title.isascii() else "zh-CN"
    wish = NewProduct(
        kind=kind,
        title=title,
        description=description,
        content=f"# {title}\n\n{description}",
        language=language,
        category=category,
        price_minor=price,
        currency="CNY",
    )
    found = service.submit(session, creator, service.create(session, creator, wish, now), now)
    found = service.publish(session, reviewer, found, now)
    if kind == "consulting":
        for day in range(1, 4):
            starts = now + timedelta(days=day)
            slots.add_slot(
                session, found.product, NewSlot(starts_at=starts, ends_at=starts + timedelta(minutes=50)), now
            )
    added.products += 1


def _caller(session: Session, email: str) -> Caller:
    user: User | None = user_by_email(session, email)
    if user is None:
        raise BadSetting(f"{email}: the sample's account is gone; seed an empty database")
    roles = roles_of(session, user.id)
    return Caller(kind="person", id=user.id, roles=roles, scopes=frozenset(), tenant_id=user.tenant_id or "")
