"""Why nobody answers, in words: an unknown name, a proxy, a refused connection; and the client that meets them."""

from __future__ import annotations

import os
import ssl
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import httpx

from cosell_sync.errors import ConfigError

UNTRUSTED: Final = "SSL_CERT_FILE must name a bundle with the certificate authority in use"
_PROXIES: Final = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")


def make_client(verify: ssl.SSLContext, timeout: httpx.Timeout, *, proxies: bool) -> httpx.Client:
    """A client that follows no redirect. ``proxies``: whether those of the environment are used.

    Raises ConfigError where one of them is no address.
    """
    try:
        return httpx.Client(verify=verify, trust_env=proxies, follow_redirects=False, timeout=timeout)
    except (ValueError, httpx.InvalidURL) as error:
        named = next((name for name in _PROXIES if os.environ.get(name)), "HTTPS_PROXY")
        raise ConfigError(
            f"{named} is no address of a proxy", hint=f"write http://HOST:PORT, or unset {named}"
        ) from error


def why(code: str, host: str, name: str) -> tuple[str, str]:
    """What is wrong, and the next step, which is empty where nothing more is known than that nobody answers.

    ``code``: of ``errors.connection_failure``. ``host``: that was called; ``name``: of its system.
    """
    if code in {"connect", "connect_timeout", "proxy", "name_not_found"} and (proxy := _proxy_for(host)):
        variable, address = proxy
        return (
            f"{name} cannot be reached over the proxy {address} of {variable} ({code})",
            f"correct or unset {variable}, or name {host} in NO_PROXY",
        )
    if code == "no_thread":
        return (
            f"this machine has no room for one more thread, so {name} was not called",
            "raise its limit of processes (ulimit -u, or pids of the container), or lower run.parallel",
        )
    if code == "name_not_found":
        return f"{name} cannot be reached: this machine's DNS knows no {host}", ""
    where = f" at {host}" if host else ""
    return f"{name} does not answer{where} ({code})", ""


def _proxy_for(host: str) -> tuple[str, str] | None:
    """The variable whose proxy is used for this host, and that proxy's host and port; None where none is."""
    found = getproxies_environment()
    proxy = found.get("https") or found.get("all")
    if not proxy or not host or proxy_bypass(host):
        return None
    variable = next((name for name in _PROXIES if os.environ.get(name) == proxy), "HTTPS_PROXY")
    parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    return variable, parts.netloc.rpartition("@")[2] or "?"
