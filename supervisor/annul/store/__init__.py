"""The store: everything that must survive the daemon, in one SQLite database."""

from annul.store.audit import problems
from annul.store.record import JobRecord
from annul.store.store import Store, check, migrations

__all__ = ["JobRecord", "Store", "check", "migrations", "problems"]
