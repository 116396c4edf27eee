"""Finds a PostgreSQL for the tests, or says why there is none; each run works in a schema of its own.

In this order: COSELL_TEST_POSTGRES_URL; a server on 127.0.0.1:5432 that trusts ``postgres`` (database ``test``); a server
started from local binaries in a temporary directory, on a free port, as a user that is not root.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

_VARIABLE = "COSELL_TEST_POSTGRES_URL"
_LOCAL = "postgresql+psycopg://postgres@127.0.0.1:5432/test"


@dataclass(frozen=True)
class OwnServer:
    """A server that nobody else uses. ``restart``: without waiting for anybody's transaction, as after a crash."""

    url: str
    restart: Callable[[], None]


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """A server that may be restarted; skips the test where there are no local binaries."""
    with _started(_binaries()) as own:
        yield own


@contextmanager
def server() -> Iterator[str]:
    """The URL of a PostgreSQL that answers; skips the test where there is none."""
    given = os.environ.get(_VARIABLE)
    if given:
        problem = _problem(given)
        if problem:
            pytest.fail(f"{_VARIABLE} does not answer: {problem}")
        yield given
    elif not _problem(_LOCAL):
        yield _LOCAL
    else:
        with _started(_binaries()) as own:
            yield own.url


def _binaries() -> Path:
    found = max(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), default=None, key=_major)
    if found is None:
        pytest.skip(f"no PostgreSQL: set {_VARIABLE}, or install the postgresql package")
    return found.parent


@contextmanager
def private_schema(url: str) -> Iterator[str]:
    """The same server, seen from an empty schema that is dropped afterwards."""
    name = f"cosell_{os.getpid()}_{secrets.token_hex(4)}"
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        seen = make_url(url).update_query_dict({"options": f"-csearch_path={name}"})
        yield seen.render_as_string(hide_password=False)
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    finally:
        engine.dispose()


def _problem(url: str) -> str | None:
    engine = create_engine(url, connect_args={"connect_timeout": 3})
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except OperationalError as error:
        return str(error.orig)
    finally:
        engine.dispose()
    return None


def _major(program: Path) -> int:
    return int(program.parts[-3])


@contextmanager
def _started(binaries: Path) -> Iterator[OwnServer]:
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if user is not None:
        try:
            pwd.getpwnam(user)
        except KeyError:
            pytest.skip("no PostgreSQL: it does not run as root, and there is no user postgres")
    home = Path(tempfile.mkdtemp(prefix="cosell-pg-", dir="/tmp"))  # a short path: the socket lives there
    if user is not None:
        shutil.chown(home, user)
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [binaries / program, *arguments],
            check=True,
            user=user,
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=120,
        )

    try:
        run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
        run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")
        try:
            url = URL.create(
                "postgresql+psycopg", "postgres", host="127.0.0.1", port=port, database="postgres"
            ).render_as_string()
            again = ("-D", "data", "-m", "immediate", "-w", "-l", "log", "-o", options, "restart")
            yield OwnServer(url, lambda: run("pg_ctl", *again))
        finally:
            run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
