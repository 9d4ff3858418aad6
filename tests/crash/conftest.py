"""The tests of faults share the fixtures of PostgreSQL stores."""

from postgres_stores import admin, direct, opened, proxy

__all__ = ["admin", "direct", "opened", "proxy"]
