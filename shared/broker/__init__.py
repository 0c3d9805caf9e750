"""The doorbell: Celery over Redis. Losing every message in it loses no job."""
