"""Thin HTTP front: validates, stores, enqueues, answers. Never imports torch."""
