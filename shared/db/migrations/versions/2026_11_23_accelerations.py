"""Which accelerations made each job's pictures"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_23_accelerations"
down_revision = "2026_11_22_residency"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; jobs that are there already used none."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("accelerations", sa.JSON(), nullable=True))
    op.execute("UPDATE jobs SET accelerations = '[]'")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.alter_column("accelerations", existing_type=sa.JSON(), nullable=False)


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("accelerations")
