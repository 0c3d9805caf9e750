"""The schema. Constraint names follow one convention, so that migrations can find them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.domain.status import JobStatus


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time, stored without its zone so that SQLite can compare it."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware time into naive UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give a stored time its zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: JSON, list[str]: JSON, list[dict[str, Any]]: JSON}


_STATUSES = ", ".join(f"'{status.value}'" for status in JobStatus)


class JobRow(Base):
    """One submitted request. This row is the queue entry; a Celery message only says "look"."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        CheckConstraint("(status = 'running') = (owner IS NOT NULL)", name="owner"),
        Index("ix_jobs_claim", "status", "lane", "job_class", "priority", "created_at", "id"),
        Index("ix_jobs_residency", "status", "lane", "job_class", "priority", "residency", "created_at", "id"),
        Index("ix_jobs_kind_id", "kind", "id"),
        Index("ix_jobs_status_id", "status", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    phase: Mapped[str | None] = mapped_column(String(16))
    status_seq: Mapped[int] = mapped_column(Integer, default=1)
    lane: Mapped[str] = mapped_column(String(16))
    job_class: Mapped[int] = mapped_column(Integer)
    priority: Mapped[int] = mapped_column(Integer)
    model: Mapped[str] = mapped_column(String(64))
    generator: Mapped[str] = mapped_column(String(32))
    route: Mapped[dict[str, Any]]
    leg: Mapped[int] = mapped_column(Integer, default=0)
    enhancement: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    params: Mapped[dict[str, Any]]
    warnings: Mapped[list[str]]
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    crashes: Mapped[int] = mapped_column(Integer, default=0)
    owner: Mapped[str | None] = mapped_column(String(40))
    lease_expires_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    deadline: Mapped[datetime | None]
    held: Mapped[bool] = mapped_column(default=False)
    residency: Mapped[str] = mapped_column(String(128))
    bypasses: Mapped[int] = mapped_column(Integer, default=0)
    first_bypassed_at: Mapped[datetime | None]
    errors: Mapped[int] = mapped_column(Integer, default=0)
    rung_at: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    error_retryable: Mapped[bool | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    accelerations: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    load_seconds: Mapped[float | None] = mapped_column(Float)
    run_seconds: Mapped[float | None] = mapped_column(Float)


class InputRow(Base):
    """One normalised upload of a job."""

    __tablename__ = "job_inputs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    path: Mapped[str] = mapped_column(String(255))
    width: Mapped[int]
    height: Mapped[int]
    size_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))


class ImageRow(Base):
    """One published picture."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("job_id", "image_index"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    image_index: Mapped[int]
    seed: Mapped[int]
    width: Mapped[int]
    height: Mapped[int]
    path: Mapped[str] = mapped_column(String(255))
    content_type: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    generator: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime]


class AttemptRow(Base):
    """One run of a job, kept for ever: who ran it and how it ended."""

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    lane: Mapped[str] = mapped_column(String(16))
    owner: Mapped[str] = mapped_column(String(40))
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(32))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)


class IdempotencyRow(Base):
    """A caller's key, kept for a day, and the job it stands for."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    created_at: Mapped[datetime]


class LaneRow(Base):
    """A lane that an owner has paused; a lane without a row runs."""

    __tablename__ = "lanes"

    lane: Mapped[str] = mapped_column(String(16), primary_key=True)
    paused_at: Mapped[datetime | None]


class WorkerRow(Base):
    """One worker process: its sign of life and what it can run."""

    __tablename__ = "workers"
    __table_args__ = (Index("ix_workers_lane_heartbeat_at", "lane", "heartbeat_at"),)

    owner: Mapped[str] = mapped_column(String(40), primary_key=True)
    lane: Mapped[str] = mapped_column(String(16))
    hostname: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    heartbeat_seconds: Mapped[float] = mapped_column(Float)
    """The worker's own pause between two signs of life."""
    left_at: Mapped[datetime | None]
    report: Mapped[dict[str, Any]]
    trouble: Mapped[str | None] = mapped_column(Text)
