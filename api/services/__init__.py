"""The decisions behind the routes; no FastAPI in here."""
