"""Where the trials of a search are kept, and what only one of its processes may do at a time.

    STORAGE of one machine       study.db in the search's folder, or sqlite:///FILE; claims are lock files beside it
    STORAGE of several machines  postgresql://...; claims are advisory locks of the database

A claim ends with its process, however that ends. Knows databases and locks; must not know what a trial is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from retrieval_distill.errors import UserError, first_line
from retrieval_distill.runtime import files, lock

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy import URL, Engine

KINDS = "sqlite:///FILE for one machine, or postgresql://USER@HOST/DATABASE for several"

DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgresql+psycopg2": "postgresql+psycopg2",
}
"""How an address may begin -> the driver that reads it."""

POLL_SECONDS = 0.2
"""Time between attempts at a claim that another process has."""

PATIENCE = 60
"""Seconds for which a process waits while another writes into the same SQLite file."""

ALIVE: dict[str, Any] = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=6",
}
"""Both ends of a connection to PostgreSQL notice within two minutes that the other machine is gone."""


class Claims(Protocol):
    """What processes claim by name."""

    def attempt(self, name: str) -> AbstractContextManager[bool]:
        """A context within which this process has the claim, if it can be had at once; gives whether it has."""

    def wait(self, name: str) -> AbstractContextManager[None]:
        """A context within which this process has the claim, as soon as no other has it."""


class FileClaims:
    """Lock files beside a file, for the processes of one machine.

    Args:
        file: The database.
        study: Name of the search, whose claims these are.
    """

    def __init__(self, file: Path, study: str) -> None:
        self.file, self.study = file, files.fingerprint(study)[:8]

    def attempt(self, name: str) -> AbstractContextManager[bool]:
        """See :class:`Claims`."""
        return lock.attempt(self._place(name))

    def wait(self, name: str) -> AbstractContextManager[None]:
        """See :class:`Claims`."""
        return lock.exclusive(self._place(name), wait=True)

    def _place(self, name: str) -> Path:
        return self.file.with_name(f"{self.file.stem}-{self.study}-{name}")


class DatabaseClaims:
    """Advisory locks of PostgreSQL, each with a connection of its own, on whose end the server drops it.

    Args:
        engine: Of the database.
        study: Name of the search, whose claims these are.
    """

    def __init__(self, engine: Engine, study: str) -> None:
        self.engine, self.study = engine, study

    @contextmanager
    def wait(self, name: str) -> Iterator[None]:
        """See :class:`Claims`."""
        while True:
            with self.attempt(name) as granted:
                if granted:
                    yield
                    return
            time.sleep(POLL_SECONDS)

    @contextmanager
    def attempt(self, name: str) -> Iterator[bool]:
        """See :class:`Claims`."""
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        key = int.from_bytes(hashlib.sha256(f"{self.study}/{name}".encode()).digest()[:8], signed=True)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            granted = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar()
            try:
                yield bool(granted)
            finally:
                with suppress(SQLAlchemyError):  # the connection is gone, and the lock with it
                    if granted:
                        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


def of_folder(folder: Path) -> str:
    """The storage in a search's folder, which no other search has."""
    return f"sqlite:///{(folder / 'study.db').absolute()}"


def optuna() -> ModuleType:
    """The library.

    Raises:
        UserError: It is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("tune needs: pip install 'retrieval-distill[tune]'") from None
    return optuna


def shown(storage: str) -> str:
    """A storage as it may be written down: without a password.

    Raises:
        UserError: It is no address of a database, is of a kind without claims, or its driver is not installed.
    """
    return _address(storage).render_as_string(hide_password=True)


def opened(storage: str, study: str) -> tuple[RDBStorage, Claims]:
    """A storage for Optuna, and the claims of one search there.

    Raises:
        UserError: It cannot be reached.
    """
    from optuna.storages import RDBStorage
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import SQLAlchemyError

    address = _address(storage)
    local = address.get_backend_name() == "sqlite"
    options = {"connect_args": {"timeout": PATIENCE} if local else ALIVE, "pool_pre_ping": not local}

    def claims(name: str) -> Claims:
        if local:
            return FileClaims(Path(str(address.database)), name)
        return DatabaseClaims(create_engine(address, connect_args=ALIVE, poolclass=NullPool), name)

    try:
        with claims("any").wait("open"):  # the first one makes the tables
            return RDBStorage(address.render_as_string(hide_password=False), engine_kwargs=options), claims(study)
    except (SQLAlchemyError, OSError) as error:
        raise UserError(f"storage {shown(storage)}: {first_line(error)}") from None


def _address(storage: str) -> URL:
    optuna()
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        address = make_url(storage)
    except ArgumentError:
        raise UserError(f"storage {storage!r} is no address of a database; write {KINDS}") from None
    if address.drivername not in DRIVERS or not address.database:
        raise UserError(f"storage {address.render_as_string()}: write {KINDS}")
    address = address.set(drivername=DRIVERS[address.drivername])
    try:
        address.get_dialect().import_dbapi()
    except ImportError:
        raise UserError(
            f"storage {address.render_as_string()} needs: pip install 'retrieval-distill[postgresql]'"
        ) from None
    return address
