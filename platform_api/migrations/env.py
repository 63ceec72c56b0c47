"""Run by Alembic. The connection, its transaction and its locks are the caller's: see platform_api.schema."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
