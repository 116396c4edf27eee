"""Logs are events with fields, one JSON object a line on stderr; this is the one place that shapes them.

Callers log ids, codes and counts only. Still, a library or a new line of code may let something slip, so every event
passes a second line of defence: keys that look like secrets or like another system's words are dropped, and e-mail
addresses, phone-like numbers and tokens inside texts are masked. Of an exception, its type and its safe facts are
logged (code, status, system, request id), never its message, which may quote another system; its traceback (lines of
code, never values) only at debug level.

Other libraries log through the same lines, from WARNING on, without their message: a URL or a header may stand in it.
``configure`` may be called again; it replaces what it set before.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import IO, Any, Final, Literal

import structlog

from cosell_sync import tracing
from cosell_sync.errors import CosellError

Event = MutableMapping[str, Any]

LIBRARIES: Final = (
    "httpx",
    "httpcore",
    "msal",
    "sqlalchemy",
    "alembic",
    "cheroot",
    "urllib3",
    "simple_salesforce",
    "opentelemetry",
)
QUIET: Final = (
    "procrastinate",
    "psycopg.pool",
)  # what they say of every try, `queue.lost` and `queue.found` say once
MASK: Final = "[masked]"

# Keys whose whole value goes: secrets, and the words of people or of other systems.
_SECRET_KEY: Final = re.compile(
    r"(?i)(secret|passw|passwd|token|assertion|authorization|cookie|credential|private_?key|api_?key|consumer_?key"
    r"|^key$|^code_verifier$|^(e_?)?mail|_e?mail$|phone|^(first|last|full|display)_?name$|^name$|^text$|^body$|^notes?$"
    r"|_note$|^headers?$|^payload$|^params$)"
)
_MASKED: Final = (
    re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{5,}(\.[A-Za-z0-9_-]+){0,2}"),  # a JWT
    re.compile(r"-----BEGIN [A-Z ]+-----.*?(-----END [A-Z ]+-----|\Z)", re.DOTALL),
    re.compile(r"\b00D[A-Za-z0-9]{12,15}![A-Za-z0-9._]+"),  # a Salesforce session id
    re.compile(
        r"(?i)\b(access_token|refresh_token|id_token|client_secret|consumer_secret|assertion|password|sig|code)"
        r"(\s*[=:]\s*|\"\s*:\s*\")[^\s&\",}]+"
    ),
    re.compile(r"(?i)(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"),  # user:password of a URL
    re.compile(r"[^\s@<>\"'(),;:=/]+(@|%40)[^\s@<>\"'(),;:=/]+\.[^\s@<>\"'(),;:=/?&]{2,}", re.IGNORECASE),
    re.compile(r"\b(0\.|1//|M\.)[A-Za-z0-9_.*!-]{40,}"),  # refresh tokens of Microsoft and others
)
# Digits that may be a phone number; ``_masked_phone`` excludes dates, amounts, addresses and counts.
_DIGITS: Final = re.compile(r"(?<![\w.:+-])\+?\(?\d[\d\s()./-]{5,18}\d(?![\w:-])")
_NOT_A_PHONE: Final = re.compile(
    r"\d{4}([-/])\d{2}\1\d{2}( \d{1,2})?|\d{1,3}(\.\d{1,3}){2,3}|\d+\.\d{1,2}|\d{1,8}|\d{16,}"
)
_ID_KEY: Final = re.compile(r"(^|_)(id|ids|at|timestamp|version|watermark|since|until)$")

_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def redact_text(text: str, *, phones: bool = True) -> str:
    """The text with addresses, tokens and phone-like numbers masked."""
    for pattern in _MASKED:
        text = pattern.sub(MASK, text)
    return _DIGITS.sub(_masked_phone, text) if phones else text


def _masked_phone(match: re.Match[str]) -> str:
    found = match[0].strip()
    return match[0] if _NOT_A_PHONE.fullmatch(found) else MASK


def _redacted_value(value: Any, key: str = "", depth: int = 0) -> Any:
    """The value as plain data, so that no ``repr`` is ever written. Ids and times hold long numbers that are no phones."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, Enum):
        return _redacted_value(value.value, key, depth)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, str | PurePath):
        return redact_text(str(value), phones=_ID_KEY.search(key) is None)
    if depth > 5:
        return MASK
    if isinstance(value, Mapping):
        return {
            redact_text(str(name)): _redacted_value(one, str(name), depth + 1)
            for name, one in value.items()
            if not _SECRET_KEY.search(str(name))
        }
    if isinstance(value, set | frozenset):
        return sorted((_redacted_value(one, key, depth + 1) for one in value), key=str)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_redacted_value(one, key, depth + 1) for one in value]
    if isinstance(value, type):
        return value.__name__
    return f"<{type(value).__name__}>"


def redact(logger: Any, method: str, event: Event) -> Event:
    """The event with secrets dropped and personal data masked; a structlog processor, the last before the renderer."""
    del logger, method
    return {key: _redacted_value(value, key) for key, value in event.items() if not _SECRET_KEY.search(key)}


_FACTS: Final = ("system", "code", "status", "request_id", "fields", "holder", "errno")


def _facts(error: BaseException) -> dict[str, Any]:
    """Type and safe facts. Facts of other libraries' errors are taken only where they are numbers or short codes."""
    found: dict[str, Any] = {"error": type(error).__name__}
    for name in _FACTS:
        value = getattr(error, name, None)
        if isinstance(error, CosellError):
            usable = value not in (None, "", ())
        else:
            usable = isinstance(value, int) or (
                isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", value) is not None
            )
        if usable:
            found[name] = value
    return found


def _trace(error: BaseException) -> list[str]:
    """The traceback as lines of code, without messages and local values."""
    return [
        f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def describe_exceptions(logger: Any, method: str, event: Event) -> Event:
    """``exc_info`` becomes ``error`` and its facts, with the chain of causes by type; a traceback only at debug."""
    del logger, method
    info: Any = event.pop("exc_info", None)
    event.pop("exception", None)
    event.pop("stack_info", None)
    error = _error(info)
    if error is None:
        return event
    facts = _facts(error)
    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < 5:
        causes.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    if causes:
        facts["causes"] = causes
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        facts["trace"] = _trace(error)
    return {**facts, **event}


def _error(info: Any) -> BaseException | None:
    match info:
        case BaseException():
            return info
        case (_, BaseException() as error, _):
            return error
        case True:
            return sys.exc_info()[1]
    return None


def _without_message(logger: Any, method: str, event: Event) -> Event:
    """The event of another library: its name and the place in its code, without its message."""
    del logger, method
    record: logging.LogRecord = event["_record"]
    if not record.exc_info:
        event["at"] = f"{record.module}:{record.lineno}"
    event["event"] = "library.message"
    event["library"] = record.name
    return event


def _with_trace(logger: Any, method: str, event: Event) -> Event:
    """The event with the ids of the trace that it happened in, if there is one."""
    del logger, method
    event.update(tracing.ids())
    return event


_SHARED: Final[tuple[Any, ...]] = (
    _with_trace,
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
_LAST: Final[tuple[Any, ...]] = (describe_exceptions, redact)


class _Stderr(logging.Handler):
    """Writes to ``sys.stderr`` as it is at that moment, or to the stream given; a closed one is ignored."""

    def __init__(self, stream: IO[str] | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):  # nobody reads it: a log line must not end a cycle
            stream = self._stream or sys.stderr
            stream.write(self.format(record) + "\n")
            stream.flush()

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass ours, and other libraries from WARNING on, also those that ``LIBRARIES`` does not name."""
        ours = record.name.startswith("cosell_sync") or record.levelno >= logging.WARNING
        return ours and bool(super().filter(record))

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            (self._stream or sys.stderr).flush()


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["auto", "json", "console"] = "auto",  # noqa: A002 - the word of the configuration
    stream: IO[str] | None = None,
) -> None:
    """Set up structlog and the root logger of the process; stderr unless a stream is given. ``auto``: for people on a
    terminal, JSON elsewhere.
    """
    terminal = (stream or sys.stderr).isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=_no_traceback)
        if format == "console" or (format == "auto" and terminal)
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _Stderr(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, _without_message],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_LAST, renderer],
        )
    )
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Stderr)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(logging.WARNING, _LEVELS[level]))
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=False)


def _no_traceback(stream: Any, info: tuple[type[BaseException], BaseException, TracebackType | None]) -> None:
    del stream, info


def get_logger(name: str = "cosell_sync") -> structlog.stdlib.BoundLogger:
    """A logger; ``name`` sets its level and is not written."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def flush() -> None:
    """Write out what the handlers still hold, for the moment before the process ends without clean-up."""
    for handler in logging.getLogger().handlers:
        handler.flush()
