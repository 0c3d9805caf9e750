"""SQLite (or Postgres) is the truth: schema, migrations and all SQL."""
