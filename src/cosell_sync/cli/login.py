"""``login``: a person signs in to Partner Center, by browser, pasted answer or device code; the refresh token is stored."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Annotated

import typer

from cosell_sync.bootstrap.partner_center import application, login_caller
from cosell_sync.bootstrap.store import open_tokens, store_of
from cosell_sync.cli.common import ConfigOption, load, show
from cosell_sync.core.deal import Side
from cosell_sync.cycle.binding import words
from cosell_sync.errors import ConfigError, ForeignSystem
from cosell_sync.partner_center.login import Granted, Terminal, sign_in
from cosell_sync.partner_center.signin import TOKEN_NAME
from cosell_sync.ports import Identity
from cosell_sync.settings import Settings
from cosell_sync.transport.aadsts import Way

BrowserOption = Annotated[
    bool,
    typer.Option(
        "--browser",
        help="Open a browser on this machine; it brings the answer back (authorization code with PKCE, to 127.0.0.1). "
        "The default in a terminal where there is a browser.",
    ),
]
PasteOption = Annotated[
    bool,
    typer.Option(
        "--paste",
        help="Print an address for a browser on any machine, and take the pasted address of its last page. "
        "The default in a terminal without a browser (SSH, a container with -it).",
    ),
]
DeviceOption = Annotated[
    bool,
    typer.Option(
        "--device-code",
        help="Show a code to type on another device. The default without a terminal. Many tenants block it.",
    ),
]


def login(
    browser: BrowserOption = False,
    paste: PasteOption = False,
    device_code: DeviceOption = False,
    config: ConfigOption = None,
) -> None:
    """Sign in to Partner Center as a user with MFA, and store the refresh token, encrypted. Exits 0, 2 or 3.

    Example: cosell-sync login --paste --config my.yaml
    """
    asked = [
        way
        for way, given in ((Way.BROWSER, browser), (Way.PASTE, paste), (Way.DEVICE_CODE, device_code))
        if given
    ]
    if len(asked) > 1:
        raise ConfigError(
            f"only one way at a time: {', '.join(f'--{way}' for way in asked)}",
            hint="give one of them, or none",
        )
    way = asked[0] if asked else usual_way(os.environ, sys.platform, terminal=_is_terminal())
    loaded = load(config, "login")
    with closing(store_of(loaded)) as store:
        tokens = open_tokens(loaded, store)
        with closing(login_caller(loaded)) as caller:
            granted = sign_in(application(loaded), caller, way, Terminal(show, _ask, _browse))
        known = store.bindings().get(Side.PARTNER_CENTER)
        _refuse_stranger(granted, known, loaded)
        tokens.save(TOKEN_NAME, granted.refresh_token)
    _tell(granted, known, loaded.connection)


def usual_way(environment: Mapping[str, str], platform: str, *, terminal: bool) -> Way:
    """How to sign in where nobody said it: by browser if one can open here, else pasted, else by device code."""
    if not terminal:
        return Way.DEVICE_CODE
    if environment.get("BROWSER"):
        return Way.BROWSER
    remote = environment.get("SSH_CONNECTION") or environment.get("SSH_TTY")
    # Without a display there are only text browsers, in which Microsoft's page does not work.
    display = environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    here = platform in {"darwin", "win32", "cygwin"} or bool(display)
    return Way.BROWSER if here and not remote else Way.PASTE


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _browse(address: str) -> bool:
    try:
        return webbrowser.open(address)
    except (webbrowser.Error, OSError):
        return False


def _ask() -> str | None:
    """One pasted line. None at the end of the input.

    A terminal by itself takes 1024 to 4096 characters a line, and an answer may have more; `readline` lifts that. Its
    history is in memory only, and the answer is left out of it.
    """
    if sys.stdin.isatty():
        with suppress(ImportError):  # on Windows
            import readline  # noqa: PLC0415 - changes how the terminal is read

            readline.set_auto_history(False)
    try:
        return input("> ") if sys.stdin.isatty() else (sys.stdin.readline() or None)
    except EOFError:
        return None


def _refuse_stranger(granted: Granted, known: Identity | None, loaded: Settings) -> None:
    """Keep the sign-in of the store's own tenant, unless the configuration names the other one by its id."""
    tenant, configured = granted.tenant, loaded.partner_center.tenant_id or ""
    if (
        known is None
        or not known.account
        or not tenant
        or tenant in {known.account, configured.strip().lower()}
    ):
        return
    raise ForeignSystem(
        f"this store belongs to {words(known)}, and this is a sign-in to tenant {tenant}; nothing was stored",
        hint=f"sign in as a user of tenant {known.account}; to move the store to the other one, put its id into partner_center.tenant_id, "
        f"log in again and run cosell-sync connection rebind {loaded.connection}",
    )


def _tell(granted: Granted, known: Identity | None, connection: str) -> None:
    tenant = granted.tenant
    show(
        f"Signed in to Partner Center{f', tenant {tenant}' if tenant else ''}{', with MFA' if granted.mfa else ''}."
    )
    if granted.mfa is False:
        show(
            "Warning: this sign-in was made without multifactor authentication (MFA), and Partner Center refuses such calls "
            "(900421). Let the user set up MFA (https://aka.ms/mfasetup), then run cosell-sync login again."
        )
    if known is not None and known.account and tenant and known.account != tenant:
        show(
            f"Warning: the store belongs to {words(known)}. Next: cosell-sync connection rebind {connection}"
        )
        return
    show("Next: cosell-sync doctor")
