"""At which migration a database stands, and taking it up or down. One transaction: all of it, or nothing."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import SQLAlchemyError

from platform_api.columns import UtcDateTime, metadata
from platform_api.database import BrokenReference, Database
from shared.errors import BadSetting, DeploymentError

MIGRATE = "zhiyin platform migrate"
_FOLDER = Path(__file__).with_name("migrations")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One migration. title: its first line."""

    revision: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a database stands. current: None for an empty one; pending: what it lacks, in order."""

    current: str | None
    pending: tuple[Step, ...]


def steps() -> tuple[Step, ...]:
    """Every migration of this version, first to last."""
    found = reversed(list(_scripts().walk_revisions()))
    return tuple(Step(revision=script.revision, title=script.doc.rstrip(".")) for script in found)


def standing(database: Database) -> Standing:
    """Where it stands. Raises BadSetting for a database of a newer version, and SQLAlchemyError."""
    with database.engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    known = [step.revision for step in steps()]
    if current is not None and current not in known:
        raise BadSetting(
            f"the database is at migration {current}, which this version does not know; "
            f"run the version that made it, or restore a backup of before"
        )
    done = 0 if current is None else known.index(current) + 1
    return Standing(current=current, pending=steps()[done:])


def migrate(database: Database, revision: str = "head") -> None:
    """Take the database up to a revision. Raises BadSetting, DeploymentError."""
    _run(database, command.upgrade, revision)


def migrate_down(database: Database, revision: str) -> None:
    """Undo everything after a revision; "base" undoes all. What is kept in tables that go is lost."""
    _run(database, command.downgrade, revision)


def stamp(database: Database) -> None:
    """Note that the tables, made by other means, are those of the last migration."""
    with database.migrating() as connection:
        MigrationContext.configure(connection).stamp(_scripts(), "head")


def write_step(database: Database, title: str, folder: Path | None = None) -> Path:
    """For developers: the next migration, from what the tables' descriptions have and the migrated database has not.

    It is a draft: read it, and add the triggers and data that a comparison cannot see.
    """
    number = f"{len(steps()) + 1:04d}"
    config = _config()
    if folder is not None:
        config.set_main_option("version_locations", f"{_FOLDER / 'versions'}\n{folder}")
    with database.migrating() as connection:
        context = MigrationContext.configure(connection, opts=comparison())
        return Path(_draft(config, context, title, number, folder or _FOLDER / "versions"))


def comparison() -> dict[str, Any]:
    """How the tables' descriptions are compared with a database."""
    return {
        "target_metadata": metadata,
        "compare_type": True,
        "compare_server_default": True,
        "include_name": lambda name, kind, _: not (kind in ("table", "index") and str(name).startswith("search_index")),
        "render_item": _plain_type,
    }


def _draft(config: Config, context: MigrationContext, title: str, number: str, folder: Path) -> str:
    from alembic.autogenerate import produce_migrations, render_python_code

    changes = produce_migrations(context, metadata)
    assert changes.upgrade_ops is not None
    assert changes.downgrade_ops is not None
    script = ScriptDirectory.from_config(config)
    made = script.generate_revision(
        number,
        title,
        head=steps()[-1].revision,
        version_path=str(folder),
        upgrades=render_python_code(changes.upgrade_ops, render_item=_plain_type),
        downgrades=render_python_code(changes.downgrade_ops, render_item=_plain_type),
    )
    assert made is not None
    return made.path


def _plain_type(kind: str, item: Any, _: Any) -> str | Literal[False]:
    # The names of our own column types may change; a migration stays as it is.
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and type(item).__name__ == "AutoString":
        return f"sa.String(length={item.length})" if item.length else "sa.String()"
    return False


def _run(database: Database, change: Any, revision: str) -> None:
    config = _config()
    with database.engine.connect() as connection:
        _require_own_tables(connection)
    try:
        with database.migrating() as connection:
            config.attributes["connection"] = connection
            change(config, revision)
    except CommandError as error:
        names = ", ".join(step.revision for step in steps())
        raise BadSetting(f"{revision} is no migration to go to from here ({error}); there are base, {names}") from None
    except (SQLAlchemyError, BrokenReference) as error:
        cause = getattr(error, "orig", None) or error
        raise DeploymentError(f"the migration failed and nothing of it was kept: {cause}") from error


def _require_own_tables(connection: Connection) -> None:
    names = set(inspect(connection).get_table_names())
    if "alembic_version" not in names and names & set(metadata.tables):
        raise BadSetting("the database has tables of this service that no migration made; use an empty database")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("file_template", "m%%(rev)s_%%(slug)s")
    return config


@lru_cache(maxsize=1)
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
