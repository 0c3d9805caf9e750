"""Why a worker does not claim jobs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_23_worker_trouble"
down_revision = "2026_11_23_accelerations"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("trouble", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("workers", schema=None) as batch_op:
        batch_op.drop_column("trouble")
