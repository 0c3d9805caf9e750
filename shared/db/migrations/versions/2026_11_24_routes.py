"""A job's route through the generators, its enhanced prompt, who made each picture, and where each attempt ran"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "2026_11_24_routes"
down_revision = "2026_11_23_worker_trouble"
branch_labels = None
depends_on = None

_JOBS: Final = sa.table(
    "jobs",
    sa.column("id", sa.String()),
    sa.column("model", sa.String()),
    sa.column("params", sa.JSON()),
    sa.column("route", sa.JSON()),
)


def upgrade() -> None:
    """Apply. Every earlier job was made by one local generator alone."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("route", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("leg", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("enhancement", sa.JSON(none_as_null=True), nullable=True))
    connection = op.get_bind()
    for job in connection.execute(sa.select(_JOBS.c.id, _JOBS.c.model, _JOBS.c.params)).all():
        route = _local_route(job.model, job.params["num_images"])
        connection.execute(sa.update(_JOBS).where(_JOBS.c.id == job.id).values(route=route))
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.alter_column("route", nullable=False)
        batch_op.alter_column("leg", server_default=None)
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.add_column(sa.Column("generator", sa.String(length=32), nullable=False, server_default="local"))
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.alter_column("generator", server_default=None)
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("lane", sa.String(length=16), nullable=False, server_default="gpu"))
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.alter_column("lane", server_default=None)


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.drop_column("lane")
    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.drop_column("generator")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("enhancement")
        batch_op.drop_column("leg")
        batch_op.drop_column("route")


def _local_route(model: str, count: int) -> dict[str, Any]:
    leg = {"generator": "local", "model": model, "first": 0, "count": count, "changes": {}}
    return {"legs": [leg], "reason": "", "alternatives": []}
