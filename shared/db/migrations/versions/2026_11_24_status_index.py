"""An index for lists of jobs of one status, newest first"""

from __future__ import annotations

from alembic import op

revision = "2026_11_24_status_index"
down_revision = "2026_11_24_routes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_jobs_status_id", "jobs", ["status", "id"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_jobs_status_id", table_name="jobs")
