"""What each job needs on the card, and how often it was passed over for another that needed no loading"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_residency"
down_revision = "2026_11_21_initial"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply; for jobs that are there already the key is their model."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("residency", sa.String(length=128), nullable=True))
        batch_op.add_column(sa.Column("bypasses", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("first_bypassed_at", sa.DateTime(), nullable=True))
    op.execute("UPDATE jobs SET residency = model, bypasses = 0")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.alter_column("residency", existing_type=sa.String(length=128), nullable=False)
        batch_op.alter_column("bypasses", existing_type=sa.Integer(), nullable=False)
        batch_op.create_index(
            "ix_jobs_residency",
            ["status", "lane", "job_class", "priority", "residency", "created_at", "id"],
            unique=False,
        )


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_jobs_residency")
        batch_op.drop_column("first_bypassed_at")
        batch_op.drop_column("bypasses")
        batch_op.drop_column("residency")
