"""Finds a PostgreSQL for the tests, or says why there is none; each run works in a schema of its own.

In this order: COSELL_TEST_POSTGRES_URL; a server on 127.0.0.1:5432 that trusts ``postgres`` (database ``test``); a server
started from local binaries in a temporary directory, on a free port, as a user that is not root.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

from ports import held_port

_VARIABLE = "COSELL_TEST_POSTGRES_URL"
_LOCAL = "postgresql+psycopg://postgres@127.0.0.1:5432/test"


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
        with own_server() as own:
            yield own.url


@contextmanager
def private_schema(url: str) -> Iterator[str]:
    """The same server, seen from an empty schema that is dropped afterwards."""
    name = f"cosell_{os.getpid()}_{secrets.token_hex(4)}"
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
        engine.dispose()  # a test may restart the server
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


class OwnServer:
    """A PostgreSQL of this test alone, which may be stopped and started."""

    def __init__(self, binaries: Path, home: Path, user: str | None, port: int) -> None:
        self._binaries, self._home, self._user, self._port = binaries, home, user, port
        self.url = URL.create(
            "postgresql+psycopg", "postgres", host="127.0.0.1", port=port, database="postgres"
        ).render_as_string()

    def make(self) -> None:
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")

    def start(self) -> None:
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._home} -c fsync=off"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        """As a crash: no session is ended politely."""
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def restart(self) -> None:
        """Without waiting for anybody's transaction."""
        self.stop()
        self.start()

    @contextmanager
    def pooled(self) -> Iterator[str]:
        """The same database through a PgBouncer that lends out sessions by transaction; skips the test where there is none."""
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("no PgBouncer: install the pgbouncer package")
        with held_port() as port:
            (self._home / "users.txt").write_text('"postgres" ""\n', encoding="utf-8")
            (self._home / "pgbouncer.ini").write_text(
                f"[databases]\npostgres = host=127.0.0.1 port={self._port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
                f"listen_port = {port}\nauth_type = trust\nauth_file = users.txt\npool_mode = transaction\n"
                "unix_socket_dir =\nmax_client_conn = 100\ndefault_pool_size = 4\n",
                encoding="utf-8",
            )
            with subprocess.Popen(
                [program, "-q", "pgbouncer.ini"], cwd=self._home, user=self._user, stderr=subprocess.DEVNULL
            ) as bouncer:
                try:
                    url = make_url(self.url).set(port=port).render_as_string()
                    until = time.monotonic() + 30
                    while problem := _problem(url):
                        assert time.monotonic() < until, problem
                    yield url
                finally:
                    bouncer.kill()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / program, *arguments],
            check=True,
            user=self._user,
            cwd=self._home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=120,
        )


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """One that is started for this test from local binaries; skips the test where there are none."""
    program = max(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), default=None, key=_major)
    if program is None:
        pytest.skip(f"no PostgreSQL: set {_VARIABLE}, or install the postgresql package")
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if user is not None:
        try:
            pwd.getpwnam(user)
        except KeyError:
            pytest.skip("no PostgreSQL: it does not run as root, and there is no user postgres")
    home = Path(tempfile.mkdtemp(prefix="cosell-pg-", dir="/tmp"))  # a short path: the socket lives there
    if user is not None:
        shutil.chown(home, user)
    try:
        with held_port() as port:
            own = OwnServer(program.parent, home, user, port)
            own.make()
            own.start()
            try:
                yield own
            finally:
                own.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)
