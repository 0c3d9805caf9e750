"""Alembic migrations; run by ``shared.db.migrate``."""
