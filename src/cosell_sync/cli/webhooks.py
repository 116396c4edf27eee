"""``webhooks status|register|unregister|test``: the registration at Partner Center, which is one for the whole tenant."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Final

import typer

from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.bootstrap.partner_center import webhook_registration
from cosell_sync.cli.common import ConfigOption, JsonOption, load, show, show_json
from cosell_sync.errors import ConfigError
from cosell_sync.partner_center.registration import CALLBACK, EVENTS, TEST, Registered, Registration
from cosell_sync.settings import Settings
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY

app = typer.Typer(
    help="See, make and test the registration for Partner Center's events; there is one for the whole tenant.",
    no_args_is_help=True,
)
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Also where another program is registered; it gets no events any more."),
]
PATIENCE: Final = 30.0  # seconds for a test event to arrive
LOOK_EVERY: Final = 1.0


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show where Partner Center sends events: 0 to us, 1 elsewhere, nowhere, or not all of them.

    Example: cosell-sync webhooks status --config my.yaml
    """
    loaded = load(config, "login")
    with _opened(loaded) as registration:
        found = registration.read()
    missing = _missing(loaded, found)
    if as_json:
        shown = (
            None
            if found is None
            else {"url": found.url, "events": list(found.events), "own_header": found.own_header}
        )
        show_json({"registered": shown, "ours": not missing, "missing": missing})
    elif found is None:
        show("Nothing is registered. Next: cosell-sync webhooks register")
    else:
        show(f"{found.url} gets {', '.join(found.events) or 'nothing'}.")
        show("All as configured." if not missing else "Not as configured: " + "; ".join(missing))
    raise typer.Exit(NEEDS_NOBODY if not missing else NEEDS_A_PERSON)


@app.command()
def register(config: ConfigOption = None, force: ForceOption = False) -> None:
    """Let Partner Center send its events to webhooks.public_url; refuses to take them from another program without --force.

    Example: cosell-sync webhooks register --config my.yaml
    """
    loaded = load(config, "login")
    url = _callback(loaded)
    with _opened(loaded) as registration:
        found = registration.read()
        if found is not None and found.url != url and found.events and not force:
            raise ConfigError(
                f"Partner Center sends {', '.join(found.events)} to {found.url}",
                hint="that may be Microsoft's connector, which would get no events any more; if that is meant, use --force",
            )
        offered = set(registration.events())
        events = tuple(each for each in (*EVENTS, TEST) if each in offered)
        wanted = Registered(url, events, loaded.webhooks.header == "x-ms-signature")
        made = registration.write(wanted, replace=found is not None)
    show(f"Partner Center sends {', '.join(made.events)} to {made.url}. Next: cosell-sync webhooks test")


@app.command()
def unregister(config: ConfigOption = None, force: ForceOption = False) -> None:
    """Take our events out of the registration. The registration itself stays: Partner Center has no way to delete it.

    Example: cosell-sync webhooks unregister --config my.yaml
    """
    loaded = load(config, "login")
    with _opened(loaded) as registration:
        found = registration.read()
        if found is None:
            show("Nothing is registered.")
            return
        if found.url != _callback(loaded) and not force:
            raise ConfigError(
                f"the registration is for {found.url}, not for webhooks.public_url",
                hint="leave it to the program that it belongs to, or use --force",
            )
        rest = tuple(each for each in found.events if each not in (*EVENTS, TEST))
        registration.write(Registered(found.url, rest, found.own_header), replace=True)
    show("Partner Center sends us no events any more; polling goes on.")


@app.command(name="test")
def try_out(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Ask Partner Center for a test event, and say what the running daemon answered: 0 accepted, 1 not.

    Example: cosell-sync webhooks test --config my.yaml
    """
    loaded = load(config, "login")
    wait = threading.Event().wait
    with _opened(loaded) as registration:
        found = registration.read()
        if found is None or TEST not in found.events:
            what = "nothing is registered" if found is None else f"{found.url} gets no test events"
            raise ConfigError(what, hint="cosell-sync webhooks register")
        correlation = registration.test()
        for _ in range(round(PATIENCE / LOOK_EVERY)):
            over, attempts = registration.attempts(correlation)
            accepted = any(each.status is not None and 200 <= each.status < 300 for each in attempts)
            if over or accepted:
                break
            wait(LOOK_EVERY)
    if as_json:
        show_json(
            {"accepted": accepted, "attempts": [{"status": each.status, "at": each.at} for each in attempts]}
        )
    else:
        answers = ", ".join(str(each.status or "no answer") for each in attempts) or "not sent yet"
        show(f"{'Accepted' if accepted else 'Not accepted'} ({answers}).")
        if not accepted:
            show(_advice([each.status for each in attempts]))
    raise typer.Exit(NEEDS_NOBODY if accepted else NEEDS_A_PERSON)


def _advice(statuses: list[int | None]) -> str:
    """What to look at, by what our address answered last."""
    match statuses[-1] if statuses else None:
        case 401:
            return "Next: check webhooks.enabled, .header, .certificate_hosts and .trusted_roots; the daemon's log says which (webhook.refused)"
        case 404:
            return f"Next: the proxy in front must pass {CALLBACK} on unchanged"
        case None:
            return "Next: check that webhooks.public_url is reached from the internet, and that `cosell-sync run` is up"
    return "Next: read the daemon's log (webhook.refused, http.failed)"


@contextmanager
def _opened(loaded: Settings) -> Iterator[Registration]:
    with ExitStack() as closing:
        yield webhook_registration(loaded, utc_now, closing)


def _callback(loaded: Settings) -> str:
    if not loaded.webhooks.public_url:
        raise ConfigError(
            "webhooks.public_url is not given",
            hint="give the https address under which Partner Center reaches http.listen, usually a proxy's",
        )
    # Where there are several connections each has an address of its own, for an event does not say whose it is.
    return f"{loaded.webhooks.public_url}{CALLBACK}{f'/{loaded.connection}' if loaded.key_prefix else ''}"


def _missing(loaded: Settings, found: Registered | None) -> list[str]:
    """What of the registration is not as configured; empty where all is."""
    if found is None:
        return ["nothing is registered"]
    wrong = []
    if not loaded.webhooks.public_url or found.url != _callback(loaded):
        wrong.append("events go to another address")
    lacking = [each for each in EVENTS if each not in found.events]
    if lacking:
        wrong.append(f"{', '.join(lacking)} are not sent")
    if found.own_header != (loaded.webhooks.header == "x-ms-signature"):
        wrong.append("the signature comes in another header than webhooks.header")
    return wrong
