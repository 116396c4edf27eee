"""Takes out of an installed environment what the program never reads: for the container image, 60 MB of 182.

Run it with the interpreter of that environment: ``/opt/cosell-sync/bin/python slim.py``. It prints what was freed.

pycountry and Babel: lists other than those of countries and currencies, and languages other than those in which names of
countries are looked up. Pygments: languages other than Python. SQLAlchemy: databases that hold no store. tzdata: the time
zones, where the system has them. Headers, stubs and sources of compiled modules, and the tests that libraries ship. Of
modules that nothing here imports, the bytecode only: whatever does import one finds its source.
"""

from __future__ import annotations

import gettext
import shutil
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

TESTS: Final = ("alembic/testing", "cheroot/test", "pycountry/tests", "sqlalchemy/testing", "certifi/tests")
LEXERS: Final = ("__init__", "_mapping", "python", "special")
DATABASES: Final = ("sqlalchemy/dialects/mssql", "sqlalchemy/dialects/mysql", "sqlalchemy/dialects/oracle")
COUNTRIES: Final = "iso3166-1"
LISTS: Final = (COUNTRIES, "iso4217")
SYSTEM_ZONES: Final = Path("/usr/share/zoneinfo/tzdata.zi")
SOURCES: Final = (".c", ".h", ".pxd", ".pxi", ".pyi", ".pyx")
BYTECODE: Final = (
    "google/api", "google/longrunning", "google/type", "lxml/html", "lxml/isoschematron", "pydantic/v1",
    "pygments/formatters", "pygments/styles", "requests_toolbelt",
)  # fmt: skip


def unread(site: Path, languages: Collection[str]) -> Iterator[Path]:
    """Files and folders below a ``site-packages`` that are not read when these languages are all that is asked for."""
    kept = {"root", "en", *languages}
    locales = site / "pycountry" / "locales"
    spoken = {name for each in languages for name in gettext.find(COUNTRIES, locales, [each], all=True)}
    yield from (each for each in locales.glob("*/LC_MESSAGES/*.mo") if str(each) not in spoken)
    yield from _others((site / "pycountry" / "databases").glob("*.json"), LISTS)
    yield from _others((site / "babel" / "locale-data").glob("*.dat"), kept)
    for lexer in _others((site / "pygments" / "lexers").glob("*.py"), LEXERS):
        yield lexer
        yield from (lexer.parent / "__pycache__").glob(f"{lexer.stem}.*.pyc")
    yield from (site / name for name in (*TESTS, *DATABASES))
    if SYSTEM_ZONES.exists():
        yield site / "tzdata" / "zoneinfo"
    yield from (each for each in site.rglob("*") if each.suffix in SOURCES and each.is_file())
    for name in BYTECODE:
        yield from (site / name).rglob("__pycache__")


def _others(files: Iterable[Path], kept: Collection[str]) -> Iterator[Path]:
    return (each for each in files if each.stem not in kept)


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files if each.is_file())


def slim(site: Path, languages: Collection[str]) -> int:
    """Delete what is unread; returns the bytes freed."""
    freed = 0
    for path in list(unread(site, languages)):
        if path.exists():
            freed += size(path)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return freed


if __name__ == "__main__":
    from cosell_sync.core.countries import LANGUAGES

    freed = slim(Path(sysconfig.get_path("purelib")), LANGUAGES)
    sys.stdout.write(f"{freed / 1e6:.0f} MB freed\n")
