"""``login``: signs in to Partner Center with a code typed elsewhere, and stores the refresh token."""

from __future__ import annotations

from contextlib import closing

from cosell_sync.bootstrap import application, login_caller, open_tokens, utc_now
from cosell_sync.cli.common import ConfigOption, load, show
from cosell_sync.partner_center.signin import device_login
from cosell_sync.store.open import open_store


def login(config: ConfigOption = None) -> None:
    """Sign in to Partner Center (device code, with MFA) and store the refresh token, encrypted."""
    loaded = load(config, "login")
    with closing(open_store(loaded.store.url, utc_now)) as store, closing(login_caller(loaded)) as caller:
        device_login(application(loaded), open_tokens(loaded, store), show, caller)
    show("Signed in. Next: cosell-sync doctor")
