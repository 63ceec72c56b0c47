"""The first tables.

Revision: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op

from platform_api.append_only import refusal_statements
from platform_api.payments.tables import append_only_statements
from platform_api.search.tables import install_search, remove_search

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# What these tables refuse to change, as their columns stand in this step.
FIXED = {
    "policies": ("version", "text_zh", "text_en", "published_at"),
    "consent_receipts": ("number", "purpose", "given", "policy_version", "at"),
    "model_events": ("number", "name", "version_id", "previous_id", "kind", "at", "client_id"),
    "privacy_releases": (
        "number",
        "version_id",
        "model",
        "model_version",
        "refused",
        "recipe",
        "plan_digest",
        "released_at",
        "recorded_at",
        "epsilon",
        "delta",
        "against",
        "scope",
        "unit",
        "adjacency",
        "tuned_on_data",
        "mechanisms",
    ),
}
JOURNALS = ("journals", "postings")
# Each after those that point at it.
TABLES = (
    "slot_holds", "refunds", "entitlements", "search_documents", "refresh_tokens", "product_versions",
    "product_reviews", "creator_accounts", "order_lines", "consulting_slots", "catalogue_positions", "user_roles",
    "recommendation_settings", "products", "shelf_changes", "privacy_releases", "orders", "model_pointers",
    "model_events", "login_families", "users", "postings", "model_versions", "machine_clients", "consent_receipts",
    "webhook_receipts", "tenants", "policies", "model_publishers", "journals", "idempotent_requests", "categories",
    "catalogue_snapshots", "sweep_turns",
)  # fmt: skip


def upgrade() -> None:
    _create()
    dialect = op.get_bind().dialect.name
    for name, columns in FIXED.items():
        for statement in refusal_statements(name, columns, dialect):
            op.execute(statement)
    for name in JOURNALS:
        for statement in append_only_statements(dialect, name):
            op.execute(statement)
    install_search(op.get_bind())


def downgrade() -> None:
    connection = op.get_bind()
    remove_search(connection)
    for name in TABLES:
        op.drop_table(name)
    if connection.dialect.name == "postgresql":
        for name in FIXED:
            op.execute(f"DROP FUNCTION {name}_refuse()")
        for name in JOURNALS:
            op.execute(f"DROP FUNCTION {name}_append_only()")


def _create() -> None:
    op.create_table(
        "catalogue_snapshots",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("content_digest", sa.String(length=64), nullable=False),
        sa.Column("num_items", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_catalogue_snapshots"),
        sa.UniqueConstraint("digest", name="uq_catalogue_snapshots_digest"),
    )
    op.create_table(
        "categories",
        sa.Column("slug", sa.String(length=64), nullable=False),
        sa.Column("parent_slug", sa.String(), nullable=True),
        sa.Column("name_zh", sa.String(length=100), nullable=False),
        sa.Column("name_en", sa.String(length=100), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["parent_slug"], ["categories.slug"], name="fk_categories_parent_slug_categories"),
        sa.PrimaryKeyConstraint("slug", name="pk_categories"),
    )
    op.create_index("ix_categories_parent_slug", "categories", ["parent_slug"])
    op.create_table(
        "idempotent_requests",
        sa.Column("caller_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_digest", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt", sa.String(), nullable=False),
        sa.Column("begun", sa.String(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("caller_id", "key", name="pk_idempotent_requests"),
    )
    op.create_index("ix_idempotent_requests_started_at", "idempotent_requests", ["started_at"])
    op.create_table(
        "sweep_turns",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sweep_turns"),
    )
    op.create_table(
        "journals",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journals"),
        sa.UniqueConstraint("kind", "subject_id", name="uq_journals_kind_subject_id"),
    )
    op.create_index("ix_journals_order_id", "journals", ["order_id"])
    op.create_table(
        "model_publishers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_model_publishers"),
        sa.UniqueConstraint("public_key", name="uq_model_publishers_public_key"),
    )
    op.create_table(
        "policies",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text_zh", sa.Text(), nullable=False),
        sa.Column("text_en", sa.Text(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_policies"),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
        sa.UniqueConstraint("name", name="uq_tenants_name"),
    )
    op.create_table(
        "webhook_receipts",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_receipts"),
    )
    op.create_index("ix_webhook_receipts_received_at", "webhook_receipts", ["received_at"])
    op.create_table(
        "consent_receipts",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("given", sa.Boolean(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_version"], ["policies.version"], name="fk_consent_receipts_policy_version_policies"
        ),
        sa.PrimaryKeyConstraint("number", name="pk_consent_receipts"),
    )
    op.create_index("ix_consent_receipts_user_id_purpose", "consent_receipts", ["user_id", "purpose"])
    op.create_table(
        "machine_clients",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=True),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_machine_clients_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_machine_clients"),
    )
    op.create_index("ix_machine_clients_tenant_id", "machine_clients", ["tenant_id"])
    op.create_table(
        "model_versions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("publisher_id", sa.String(), nullable=False),
        sa.Column("manifest_sha256", sa.String(length=64), nullable=False),
        sa.Column("model_sha256", sa.String(length=64), nullable=False),
        sa.Column("model_bytes", sa.Integer(), nullable=False),
        sa.Column("catalogue_digest", sa.String(length=64), nullable=False),
        sa.Column("recipe", sa.String(length=64), nullable=False),
        sa.Column("evaluation", sa.Text(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["publisher_id"], ["model_publishers.id"], name="fk_model_versions_publisher_id_model_publishers"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_model_versions"),
        sa.UniqueConstraint("name", "version", name="uq_model_versions_name_version"),
    )
    op.create_index("ix_model_versions_name", "model_versions", ["name"])
    op.create_index("ix_model_versions_publisher_id", "model_versions", ["publisher_id"])
    op.create_table(
        "postings",
        sa.Column("journal_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("account", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("creator_account_id", sa.String(length=64), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.CheckConstraint("amount_minor <> 0", name="ck_postings_amount_not_zero"),
        sa.CheckConstraint(
            "(account IN ('tenant-revenue', 'tenant-refunds')) = (tenant_id <> '') AND "
            "(account IN ('creator-revenue', 'creator-refunds')) = (creator_account_id <> '')",
            name="ck_postings_account_has_its_owner",
        ),
        sa.ForeignKeyConstraint(["journal_id"], ["journals.id"], name="fk_postings_journal_id_journals"),
        sa.PrimaryKeyConstraint("journal_id", "position", name="pk_postings"),
    )
    op.create_index("ix_postings_account", "postings", ["account"])
    op.create_index("ix_postings_creator_account_id", "postings", ["creator_account_id"])
    op.create_table(
        "users",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("display_name", sa.String(length=100), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_users_tenant_id_tenants"),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
    )
    op.create_index("ix_users_tenant_id", "users", ["tenant_id"])
    op.create_table(
        "login_families",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_login_families_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_login_families"),
    )
    op.create_index("ix_login_families_user_id", "login_families", ["user_id"])
    op.create_index("ix_login_families_ended_at", "login_families", ["ended_at"])
    op.create_table(
        "model_events",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version_id", sa.String(), nullable=False),
        sa.Column("previous_id", sa.String(), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("client_id", sa.String(length=64), nullable=True),
        sa.Column("user_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["previous_id"], ["model_versions.id"], name="fk_model_events_previous_id_model_versions"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_model_events_user_id_users"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name="fk_model_events_version_id_model_versions"
        ),
        sa.PrimaryKeyConstraint("number", name="pk_model_events"),
    )
    op.create_index("ix_model_events_name", "model_events", ["name"])
    op.create_index("ix_model_events_user_id", "model_events", ["user_id"])
    op.create_index("ix_model_events_version_id", "model_events", ["version_id"])
    op.create_table(
        "model_pointers",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("live_id", sa.String(), nullable=True),
        sa.Column("shadow_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["live_id"], ["model_versions.id"], name="fk_model_pointers_live_id_model_versions"),
        sa.ForeignKeyConstraint(
            ["shadow_id"], ["model_versions.id"], name="fk_model_pointers_shadow_id_model_versions"
        ),
        sa.PrimaryKeyConstraint("name", name="pk_model_pointers"),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("total_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("intent_id", sa.String(length=64), nullable=True),
        sa.Column("pay_url", sa.String(length=500), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint("total_minor >= 0", name="ck_orders_total_not_negative"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_orders_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_orders"),
        sa.UniqueConstraint("intent_id", name="uq_orders_intent_id"),
    )
    op.create_index("ix_orders_created_at", "orders", ["created_at"])
    op.create_index("ix_orders_status", "orders", ["status"])
    op.create_index("ix_orders_user_id", "orders", ["user_id"])
    op.create_table(
        "privacy_releases",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("model_version", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("recipe", sa.String(length=64), nullable=False),
        sa.Column("plan_digest", sa.String(length=64), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("epsilon", sa.Float(), nullable=False),
        sa.Column("delta", sa.Float(), nullable=False),
        sa.Column("against", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("adjacency", sa.Text(), nullable=False),
        sa.Column("tuned_on_data", sa.Boolean(), nullable=False),
        sa.Column("mechanisms", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name="fk_privacy_releases_version_id_model_versions"
        ),
        sa.PrimaryKeyConstraint("number", name="pk_privacy_releases"),
        sa.UniqueConstraint("version_id", name="uq_privacy_releases_version_id"),
    )
    op.create_index("ix_privacy_releases_model", "privacy_releases", ["model"])
    op.create_table(
        "shelf_changes",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_shelf_changes"),
    )
    op.create_table(
        "products",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=True),
        sa.Column("current_version", sa.Integer(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("first_published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_products_tenant_id_tenants"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_products_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_products"),
    )
    op.create_index("ix_products_first_published_at_id", "products", ["first_published_at", "id"])
    op.create_index("ix_products_tenant_id", "products", ["tenant_id"])
    op.create_index("ix_products_user_id", "products", ["user_id"])
    op.create_table(
        "recommendation_settings",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("personalised", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_recommendation_settings_user_id_users"),
        sa.PrimaryKeyConstraint("user_id", name="pk_recommendation_settings"),
    )
    op.create_table(
        "user_roles",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_user_roles_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "role", name="pk_user_roles"),
    )
    op.create_table(
        "catalogue_positions",
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("product_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_catalogue_positions_product_id_products"),
        sa.PrimaryKeyConstraint("position", name="pk_catalogue_positions"),
        sa.UniqueConstraint("product_id", name="uq_catalogue_positions_product_id"),
    )
    op.create_table(
        "consulting_slots",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("product_id", sa.String(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_consulting_slots_product_id_products"),
        sa.PrimaryKeyConstraint("id", name="pk_consulting_slots"),
    )
    op.create_index("ix_consulting_slots_product_id", "consulting_slots", ["product_id"])
    op.create_index("ix_consulting_slots_starts_at", "consulting_slots", ["starts_at"])
    op.create_table(
        "order_lines",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("order_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("title", sa.String(length=500), nullable=False),
        sa.Column("slot_id", sa.String(length=64), nullable=False),
        sa.Column("price_minor", sa.BigInteger(), nullable=False),
        sa.Column("fee_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("seller_tenant_id", sa.String(length=64), nullable=False),
        sa.Column("creator_account_id", sa.String(length=64), nullable=False),
        sa.CheckConstraint(
            "price_minor >= 0 AND fee_minor >= 0 AND fee_minor <= price_minor", name="ck_order_lines_fee_within_price"
        ),
        sa.CheckConstraint("(seller_tenant_id = '') <> (creator_account_id = '')", name="ck_order_lines_one_seller"),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_lines_order_id_orders"),
        sa.PrimaryKeyConstraint("id", name="pk_order_lines"),
        sa.UniqueConstraint("order_id", "product_id", "slot_id", name="uq_order_lines_order_id_product_id_slot_id"),
    )
    op.create_index("ix_order_lines_order_id", "order_lines", ["order_id"])
    op.create_index("ix_order_lines_seller_tenant_id", "order_lines", ["seller_tenant_id"])
    op.create_index("ix_order_lines_creator_account_id", "order_lines", ["creator_account_id"])
    op.create_table(
        "creator_accounts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_creator_accounts_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_creator_accounts"),
        sa.UniqueConstraint("user_id", name="uq_creator_accounts_user_id"),
    )
    op.create_table(
        "product_reviews",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("product_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("rating", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("show_name", sa.Boolean(), nullable=False),
        sa.Column("written_on", sa.Date(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("hidden_reason", sa.String(length=2000), nullable=False),
        sa.Column("hidden_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name="ck_product_reviews_rating_is_one_to_five"),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_product_reviews_product_id_products"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_product_reviews_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_product_reviews"),
        sa.UniqueConstraint("product_id", "user_id", name="uq_product_reviews_product_id_user_id"),
    )
    op.create_index("ix_product_reviews_user_id", "product_reviews", ["user_id"])
    op.create_table(
        "product_versions",
        sa.Column("product_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("language", sa.String(length=16), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("price_minor", sa.Integer(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("review_note", sa.String(length=2000), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('draft', 'review', 'published')", name="ck_product_versions_state_is_known"),
        sa.CheckConstraint("price_minor >= 0", name="ck_product_versions_price_is_not_negative"),
        sa.ForeignKeyConstraint(["category"], ["categories.slug"], name="fk_product_versions_category_categories"),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_product_versions_product_id_products"),
        sa.PrimaryKeyConstraint("product_id", "number", name="pk_product_versions"),
    )
    op.create_index("ix_product_versions_category", "product_versions", ["category"])
    op.create_index("ix_product_versions_state", "product_versions", ["state"])
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("family_id", sa.String(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["family_id"], ["login_families.id"], name="fk_refresh_tokens_family_id_login_families", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name="pk_refresh_tokens"),
    )
    op.create_index("ix_refresh_tokens_family_id", "refresh_tokens", ["family_id"])
    op.create_index("ix_refresh_tokens_expires_at", "refresh_tokens", ["expires_at"])
    op.create_table(
        "search_documents",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("product_id", sa.String(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("title_length", sa.Integer(), nullable=False),
        sa.Column("category_length", sa.Integer(), nullable=False),
        sa.Column("description_length", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_search_documents_product_id_products"),
        sa.PrimaryKeyConstraint("number", name="pk_search_documents"),
        sa.UniqueConstraint("product_id", name="uq_search_documents_product_id"),
    )
    op.create_table(
        "entitlements",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("product_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("slot_id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("line_id", sa.String(), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["line_id"], ["order_lines.id"], name="fk_entitlements_line_id_order_lines"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_entitlements_user_id_users"),
        sa.PrimaryKeyConstraint("id", name="pk_entitlements"),
        sa.UniqueConstraint(
            "user_id", "product_id", "version", "slot_id", name="uq_entitlements_user_id_product_id_version_slot_id"
        ),
    )
    op.create_index("ix_entitlements_line_id", "entitlements", ["line_id"])
    op.create_table(
        "refunds",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("order_id", sa.String(), nullable=False),
        sa.Column("line_id", sa.String(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("fee_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("provider_key", sa.String(length=64), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("amount_minor >= 0", name="ck_refunds_amount_not_negative"),
        sa.ForeignKeyConstraint(["line_id"], ["order_lines.id"], name="fk_refunds_line_id_order_lines"),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_refunds_order_id_orders"),
        sa.PrimaryKeyConstraint("id", name="pk_refunds"),
        sa.UniqueConstraint("provider_id", name="uq_refunds_provider_id"),
        sa.UniqueConstraint("provider_key", name="uq_refunds_provider_key"),
    )
    op.create_index("ix_refunds_line_id", "refunds", ["line_id"])
    op.create_index("ix_refunds_order_id", "refunds", ["order_id"])
    op.create_index("ix_refunds_status", "refunds", ["status"])
    op.create_table(
        "slot_holds",
        sa.Column("slot_id", sa.String(), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("held_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["slot_id"], ["consulting_slots.id"], name="fk_slot_holds_slot_id_consulting_slots"),
        sa.PrimaryKeyConstraint("slot_id", name="pk_slot_holds"),
    )
    op.create_index("ix_slot_holds_order_id", "slot_holds", ["order_id"])
