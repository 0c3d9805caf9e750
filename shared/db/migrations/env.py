"""Alembic's entry: runs migrations on the connection that ``shared.db.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from shared.db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
