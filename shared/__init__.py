"""What the processes must agree on: domain, settings, database, storage, broker, channel."""
