"""Who is told of how deals stand: the configured receivers, and the cycles that are watched for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from cosell_sync.bootstrap.program import Program
from cosell_sync.catalogues import language
from cosell_sync.notices.sender import Target, wanted
from cosell_sync.settings import Settings


def notice_targets(settings: Settings) -> Sequence[Target]:
    """The configured receivers of notices."""
    return [Target(each.url.get_secret_value(), each.format, wanted(each.on)) for each in settings.notices]


@contextmanager
def noticing(
    wired: Program, *, background: bool = False
) -> Iterator[Callable[[str], AbstractContextManager[None]]]:
    """What a cycle of this id is to run within, so that people are told of its outcome; nothing where ``notices`` is empty.

    ``background``: no receiver holds up the next cycle.
    """
    targets = notice_targets(wired.settings)
    if not targets:
        yield lambda _cycle: nullcontext()
        return
    from cosell_sync.notices.notifier import Notifier  # noqa: PLC0415 - only where somebody is to be told

    spoken = language(wired.settings.mapping.language)
    name = wired.settings.connection if wired.settings.key_prefix else ""
    notifier = Notifier(
        targets,
        wired.outbox,
        wired.store,
        wired.clock,
        background=background,
        language=spoken,
        connection=name,
    )
    try:
        yield notifier.watching
    finally:
        notifier.close()
