"""Frozen types that every process shares. Standard library and pydantic only."""
