"""What long work is at, on stderr of a terminal; nothing of it reaches a log, a pipe or a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cosell_sync.core.deal import Side
from cosell_sync.errors import Busy

if TYPE_CHECKING:
    from cosell_sync.cycle.context import Progress
    from cosell_sync.store.sql import SqlStore

_WORDS: Final = {
    ("reading", Side.PARTNER_CENTER): "Reading Partner Center: {} referrals",
    ("reading", Side.CRM): "Reading the CRM: {} opportunities",
    ("comparing", Side.PARTNER_CENTER): "Comparing with Partner Center: {} referrals",
    ("comparing", Side.CRM): "Comparing with the CRM: {} opportunities",
    ("deciding", None): "Deciding what follows: {} deals",
    ("carrying", None): "Carrying: {} deals",
}


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """What takes a line and shows it in the place of the last one; it is gone at the end. Shows nothing without a terminal."""
    if not sys.stderr.isatty():
        yield lambda _line: None
        return
    from rich.console import Console  # noqa: PLC0415 - only where somebody looks on
    from rich.text import Text  # noqa: PLC0415

    with Console(stderr=True).status("") as shown:
        yield lambda line: shown.update(Text(line))


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """What a cycle is to call while it runs (``Services.progress``)."""
    with status() as say:
        yield lambda step: say(sentence(step))


def sentence(step: Progress) -> str:
    """``Carrying: 400 of 12,000 deals``."""
    known = f"{step.done:,}" if step.total is None else f"{step.done:,} of {step.total:,}"
    return _WORDS[step.work.value, step.side].format(known)


@contextmanager
def leased(store: SqlStore, wait: timedelta) -> Iterator[None]:
    """The store as its one writer. While another process has it, its name is shown. Raises ``Busy`` when ``wait`` is over."""
    with ExitStack() as stack:
        try:
            stack.enter_context(store.lease(timedelta()))
        except Busy as busy:
            with status() as say:
                say(f"Waiting for the store, which {busy.holder} holds")
                stack.enter_context(store.lease(wait))
        yield
