"""Runs ``main()`` of the installed command in the process of the test, as if a shell had started it.

Starting the command costs more than a second of CPU, mostly for imports; the cycle after it costs a tenth of that. So
most acceptance tests call the entry point here. ``run_main`` gives it what a new process has: its own environment, working
directory, arguments and standard streams, an empty context, the interpreter's own warning filters, and logging that
nobody has set up. Afterwards all of that is put back, and what the command left running is an error.

What only a real process shows (tests of these use ``Stage.start`` or ``process=True``):

- the script in ``bin``, the options and variables of the interpreter, what an import costs and which imports are missing
  because another test has made them already;
- signals, ``kill -9``, ``os._exit``, a second process that holds the lease, a limit on how long a command takes;
- output that does not go through ``sys.stdout`` and ``sys.stderr``, and their real encoding and buffering;
- threads and connections that die with their process: here an abandoned thread has to end by itself;
- what a module keeps (``re`` and SQLAlchemy caches): it stays warm from one call to the next.
"""

from __future__ import annotations

import contextvars
import io
import logging
import os
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import structlog

from cosell_sync.cli.main import main
from log_leaks import LISTENER

SIGNALS = (signal.SIGTERM, signal.SIGINT)
STRAGGLERS = 30.0  # seconds that a thread of an ended command may still take to notice


@dataclass(frozen=True)
class Ended:
    """How the command ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


def run_main(args: Sequence[str], environment: Mapping[str, str], directory: Path) -> Ended:
    """Run ``cosell-sync ARGS`` to its end, with exactly these variables, in that working directory.

    An exception that ``main`` lets through is printed as the interpreter does, with code 1. Raises AssertionError where
    the command leaves a thread behind.
    """
    out, err = _stream("strict"), _stream("backslashreplace")
    before = set(threading.enumerate())
    with ExitStack() as put_back:
        put_back.enter_context(patch.dict(os.environ, environment, clear=True))
        put_back.enter_context(chdir(directory))
        put_back.enter_context(
            patch.multiple(sys, argv=["cosell-sync", *args], stdin=_stream("strict"), stdout=out, stderr=err)
        )
        # Help and usage name the program after `__main__` when that belongs to a package, as pytest's does.
        put_back.enter_context(_main_module(types.ModuleType("__main__")))
        put_back.enter_context(patch.object(sys, "excepthook", sys.__excepthook__))
        put_back.enter_context(_signals())
        put_back.enter_context(_warnings_of_the_interpreter())
        put_back.enter_context(_logging_of_a_new_process())
        code = contextvars.Context().run(_exit_code)
        _await_threads(before, args)
    ended = Ended(code, _text(out), _text(err))
    LISTENER.hear_command(ended.err)
    return ended


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    written = stream.buffer
    assert isinstance(written, io.BytesIO)
    return written.getvalue().decode("utf-8")


def _exit_code() -> int:
    """What the interpreter makes of the end of ``main``."""
    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except Exception:  # noqa: BLE001 - the interpreter is the last one to catch it, and so are we
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 1
    return 0


@contextmanager
def _main_module(module: types.ModuleType) -> Iterator[None]:
    """Only this entry: ``patch.dict`` would also forget every module that the command imports."""
    before, sys.modules["__main__"] = sys.modules["__main__"], module
    try:
        yield
    finally:
        sys.modules["__main__"] = before


@contextmanager
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _warnings_of_the_interpreter() -> Iterator[None]:
    """What is hidden and what is printed, instead of pytest's "every warning is an error"."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", hidden)
        yield


@contextmanager
def _logging_of_a_new_process() -> Iterator[None]:
    """No handler, no level, structlog as it comes; afterwards everything as it was."""
    root, configured, settings = logging.getLogger(), structlog.is_configured(), structlog.get_config()
    known = {each: _setup(each) for each in (root, *_loggers())}
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    structlog.reset_defaults()
    try:
        yield
    finally:
        fresh = logging.NOTSET, True, False, (), ()
        for logger in (root, *_loggers()):
            before = known.get(logger, fresh)
            if _setup(logger) != before:
                level, logger.propagate, logger.disabled, logger.handlers[:], logger.filters[:] = before
                logger.setLevel(level)
        structlog.reset_defaults()
        if configured:
            structlog.configure(**settings)


def _loggers() -> list[logging.Logger]:
    every = logging.getLogger().manager.loggerDict
    return [each for each in list(every.values()) if isinstance(each, logging.Logger)]


def _setup(
    logger: logging.Logger,
) -> tuple[int, bool, bool, tuple[logging.Handler, ...], tuple[object, ...]]:
    return logger.level, logger.propagate, logger.disabled, tuple(logger.handlers), tuple(logger.filters)


def _await_threads(before: set[threading.Thread], args: Sequence[str]) -> None:
    """The end of a process ends its daemon threads and waits for the others; here each has to end by itself."""
    until = time.monotonic() + STRAGGLERS
    left = [each for each in threading.enumerate() if each not in before and not _of_the_sandbox(each)]
    for thread in left:
        thread.join(max(0.0, until - time.monotonic()))
    names = sorted(each.name for each in left if each.is_alive())
    assert not names, f"cosell-sync {' '.join(args)} left threads: {names}; give it a process of its own"


def _of_the_sandbox(thread: threading.Thread) -> bool:
    """Threads of the fakes' servers, one for each connection."""
    return "(process_request_thread)" in thread.name
