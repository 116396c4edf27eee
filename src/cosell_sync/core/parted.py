"""A write of several fields, sent in pieces once the whole was refused; pure, and the same for every system.

One refused field must not keep the others out. A refusal that names fields takes these out, and the rest is sent again.
One that names none is searched for by halves: at most log2 n pieces, for n fields, until one field is left that must be the
cause. Then the rest goes, and with it the close, because a closed record takes no fields after it. Where even the close
alone is refused, it is the cause, and the fields go without it.

A ``PartedWrite`` says what to send next and is told what became of it; whoever drives it makes the calls:

    while (names := write.next_piece()) is not None:
        error = send(names)
        write.landed() if error is None else write.refused(error, names_of(error))

Values that mean something only together (an amount and its currency) go and stay together.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from cosell_sync.core.fields import inseparable
from cosell_sync.errors import RecordError

NAMED_ROUNDS = (
    4  # refusals that each name another field, then the rest waits; some platforms name them one at a time
)

Unit = frozenset[str]


class _Stage(Enum):
    WHOLE = "whole"  # everything that is left
    SEARCH = "search"  # half of the suspects
    REST = "rest"  # everything but the one suspect that is left
    BARE = "bare"  # only what is no optional field
    FIELDS = "fields"  # everything that is left but the last move, which is refused by itself
    DONE = "done"


class PartedWrite:
    """``optional``: fields that the record can do without for now. ``riders``: what goes with the first piece that lands.
    ``last``: what may go only with the last piece, a move to the end of a deal. ``along``: what goes with the first piece
    that lands and is not sent by itself once the rest is refused. ``words``: what is true only if everything lands, and so
    goes only with the whole. ``search``: whether a refusal that names nothing may be searched for.

    Once ``next_piece`` is None: ``refusals`` has the names that were refused and why, ``error`` why more than that failed.
    A name of ``last`` in ``refusals`` is a move that was refused while the fields landed. What of ``along`` and ``words`` did
    not go is in neither.
    """

    def __init__(
        self,
        optional: Iterable[str],
        riders: Iterable[str],
        last: Iterable[str] = (),
        *,
        along: Iterable[str] = (),
        words: Iterable[str] = (),
        search: bool = True,
    ) -> None:
        self.refusals: dict[str, RecordError] = {}
        self.error: RecordError | None = None
        self._suspects: list[Unit] = inseparable(optional)
        self._cleared: list[Unit] = []
        self._riders = frozenset(riders)
        self._last = frozenset(last)
        self._along = frozenset(along)
        self._words = frozenset(words)
        self._untried = True
        self._sent: frozenset[str] = frozenset()
        self._error: RecordError | None = None
        self._search = search
        self._stage = _Stage.WHOLE
        self._rounds = 0
        self._cause: RecordError | None = None
        self._cause_of_last: RecordError | None = None

    def next_piece(self) -> frozenset[str] | None:
        """The names to send now; None once there is nothing more to do."""
        piece = self._piece()
        if self._untried:
            piece |= self._words
        if piece or (self._untried and self._along):
            self._untried = False
            self._sent = piece | self._along
            return self._sent
        match self._stage:
            case _Stage.REST | _Stage.BARE:
                self._hold([*self._suspects, *self._cleared])
            case _Stage.FIELDS:
                self.error = self._cause_of_last
            case _Stage.WHOLE if not self.refusals:
                self.error = self._error  # nothing is left but what goes along
        self._stage = _Stage.DONE
        return None

    def _piece(self) -> frozenset[str]:
        """The next piece without what goes along; empty where there is none."""
        fields: list[Unit] = []
        match self._stage:
            case _Stage.WHOLE:
                fields = [*self._suspects, self._riders, self._last]
            case _Stage.SEARCH:
                fields = [*self._cleared, *self._half(), self._riders]
            case _Stage.REST:
                fields = [*self._cleared, self._riders, self._last]
            case _Stage.BARE:
                fields = [self._riders, self._last]
            case _Stage.FIELDS:
                fields = [*self._suspects, *self._cleared, self._riders]
        return frozenset[str]().union(*fields)

    def landed(self) -> None:
        """The piece landed."""
        self._riders = self._along = frozenset()
        match self._stage:
            case _Stage.SEARCH:
                self._suspects, self._cleared = self._suspects[len(self._half()) :], []
                self._after_search()
                return
            case _Stage.REST:
                self._hold(self._suspects)
            case _Stage.BARE:
                self._hold([*self._suspects, *self._cleared])
            case _Stage.FIELDS if self._cause_of_last is not None:
                self.refusals |= dict.fromkeys(self._last, self._cause_of_last)
        self._stage = _Stage.DONE

    def refused(self, error: RecordError, named: Iterable[str] = ()) -> None:
        """The piece was refused. ``named``: our names of what the refusal is about; empty where it does not say."""
        self._error = error
        names = frozenset(named) - self.refusals.keys()
        if extras := names & self._sent & (self._words | self._along):
            self._along -= extras
            if extras == names:
                return  # everything else is sent again, without these
        known = self._known(names)
        if known:
            self._rounds += 1
            self._take_out(known, error)
            if self._rounds > NAMED_ROUNDS:
                self._cause, self._stage = error, _Stage.BARE
        elif names:  # it is about something that cannot be left out
            self._fail(error)
        else:
            self._go_on(error)

    def _go_on(self, error: RecordError) -> None:
        """After a refusal that names nothing."""
        match self._stage:
            case _Stage.WHOLE if self._search and self._suspects:
                self._cause = error
                self._stage = _Stage.SEARCH
                self._after_search()
            case _Stage.SEARCH:
                half = self._half()
                self._suspects, self._cleared = half, [*self._cleared, *self._suspects[len(half) :]]
                self._after_search()
            case _Stage.REST if self._cleared and self._riders | self._last:
                self._stage = _Stage.BARE  # more than one cause: the moves go without any optional field
            case _Stage.REST | _Stage.BARE if self._last and [*self._suspects, *self._cleared]:
                self._cause_of_last, self._stage = error, _Stage.FIELDS
            case _Stage.REST if self._cleared:
                self._hold([*self._suspects, *self._cleared])
                self._stage = _Stage.DONE
            case _:
                self._fail(error)

    def _fail(self, error: RecordError) -> None:
        self.error = error
        self._stage = _Stage.DONE

    def _half(self) -> list[Unit]:
        return self._suspects[: (len(self._suspects) + 1) // 2]

    def _after_search(self) -> None:
        if len(self._suspects) <= 1:
            self._stage = _Stage.REST

    def _known(self, named: frozenset[str]) -> frozenset[str]:
        """Of the names those that are still to be sent and may be left out; the riders may not."""
        fields = frozenset[str]().union(*self._suspects, *self._cleared)
        return (named & fields) or (named & self._last)

    def _take_out(self, names: frozenset[str], error: RecordError) -> None:
        """Leave these out, and send everything that is left again."""
        whole = [*self._suspects, *self._cleared]
        for unit in whole:
            if unit & names:
                self.refusals |= dict.fromkeys(unit, error)
        if names & self._last:
            self.refusals |= dict.fromkeys(names & self._last, error)
            self._last = frozenset()
        self._suspects = [unit for unit in whole if not unit & names]
        self._cleared = []
        if self._stage is not _Stage.FIELDS:
            self._stage = _Stage.WHOLE

    def _hold(self, held: Iterable[Unit]) -> None:
        for unit in held:
            for name in unit:
                if self._cause is not None:
                    self.refusals.setdefault(name, self._cause)
