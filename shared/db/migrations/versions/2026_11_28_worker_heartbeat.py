"""A worker's row says how often it beats, and when it left"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import shared.db.models

revision = "2026_11_28_worker_heartbeat"
down_revision = "2026_11_24_status_index"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("workers") as table:
        table.add_column(sa.Column("heartbeat_seconds", sa.Float(), server_default="5", nullable=False))
        table.add_column(sa.Column("left_at", shared.db.models.UtcDateTime(), nullable=True))
    with op.batch_alter_table("workers") as table:
        table.alter_column("heartbeat_seconds", server_default=None)


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("workers") as table:
        table.drop_column("left_at")
        table.drop_column("heartbeat_seconds")
