"""The clock of a sandbox: the real time, moved forward at will."""

from datetime import UTC, datetime, timedelta


class Clock:
    """The time that all systems of one sandbox tell."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def advance(self, span: timedelta) -> None:
        self.ahead += span
