"""Under which names the console shows deals where nobody signs in: a page that somebody opens must not read them by DNS rebinding."""

from __future__ import annotations

import socket

import pytest
from console_world import World, deal
from structlog.testing import capture_logs
from werkzeug.test import Client

from cosell_sync.cli.console_pages import console_of_several
from cosell_sync.web.hosts import Hosts, host_of
from cosell_sync.web.server import Application, Listener

DEAL = deal(1, "Lakehouse")
PAGES = ("/", "/deals", "/deals?state=nonsense", f"/deals/{DEAL.referral_id}", "/deals/unknown")
OURS = (
    "localhost", "localhost:8080", "LocalHost:8080", "localhost.", "localhost.:8080", "localhost:", "box.localhost",
    "127.0.0.1", "127.0.0.1:8080", "10.1.2.3", "192.168.0.7.", "203.0.113.9:1",
    "[::1]", "[::1]:8080", "[2001:DB8::1]:8080", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]:8080",
    "cosell-sync", "cosell_sync:8080", "Build-Host", "a",
    "cosell-sync.crm.svc", "cosell-sync.crm.svc.cluster.local:8080", "cosell.internal", "ip-10-0-0-7.eu.compute.internal",
    "nas.local", "nas.home.arpa", "nas.lan", "NAS.LAN.:8080",
    "cosell.example.com", "COSELL.example.com:443", "cosell.example.com.", "ci.example.com", "xn--mnchen-3ya.example:8443",
)  # fmt: skip
FOREIGN = (
    "evil.example", "evil.example:8080", "EVIL.example.", "localhost.evil.example", "127.0.0.1.evil.example",
    "127.0.0.1.nip.io", "evil.svc.example", "notlocalhost.example", "home.arpa", "cluster.local.example", "evil.lan.example",
    "cosell.example.com.evil.example", "evilcosell.example.com", "example.com", "256.0.0.1", "1.2.3", "127.1",
)  # fmt: skip
MALFORMED = (
    "", " ", ".", "..", ":", ":8080", "localhost..", ".localhost", "evil..local", "[", "]", "[]", "[::1", "::1", "::1:8080",
    "[127.0.0.1]", "[::g]", "[::1]x", "[localhost]", "localhost:http", "localhost:8080:1", "localhost:123456", "local host",
    "user@localhost", "http://localhost", "localhost/", "localhost?", "localhost#", "localhost,evil.example",
    "localhost, evil.example", "127.0.0.1, 127.0.0.1", "evil.example\tlocalhost", "<script>.local", "a" * 64, f"{'a.' * 127}local",
    "ünicode.local", "localhost%00", "evil\\.local",
)  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    """Read only, and shared."""
    return World([DEAL], hosts=("Cosell.example.com", "ci.example.com.:8443", "xn--mnchen-3ya.example"))


@pytest.mark.parametrize("host", OURS)
def test_deals_are_shown_under_addresses_local_names_and_those_listed(world: World, host: str) -> None:
    assert [world.web.get(path, headers={"Host": host}).status_code for path in PAGES] == [
        200,
        200,
        400,
        200,
        404,
    ]


@pytest.mark.parametrize("host", [*FOREIGN, *MALFORMED])
def test_under_any_other_name_nothing_is_shown(world: World, host: str) -> None:
    for path in PAGES:
        for method in ("GET", "HEAD"):
            answer = world.web.open(path, method=method, headers={"Host": host})
            assert answer.status_code == 421, path
            assert answer.mimetype == "text/plain"
            assert "Lakehouse" not in answer.text
    for path in ("/livez", "/readyz", "/metrics"):
        assert world.web.get(path, headers={"Host": host}).status_code == 200, path
    assert world.web.post("/webhooks/partner-center", headers={"Host": host}).status_code in {401, 403, 404}


def test_a_request_without_a_host_is_shown_nothing(world: World) -> None:
    def bare(environ: dict[str, object], start_response: object) -> object:
        environ.pop("HTTP_HOST")
        return world.application(environ, start_response)  # type: ignore[arg-type]

    web = Client(bare)  # type: ignore[arg-type]
    assert [web.get(path).status_code for path in ("/", "/deals", "/livez")] == [421, 421, 200]


def test_the_answer_names_the_setting_and_the_value(world: World) -> None:
    told = world.web.get("/", headers={"Host": "Sync.Example.com.:8080"}).text
    assert "console.hosts: [sync.example.com]" in told
    assert "COSELL_CONSOLE__HOSTS=sync.example.com" in told
    told = world.web.get("/", headers={"Host": "<b>.example"}).text
    assert "console.hosts" in told
    assert "<b>" not in told


@pytest.mark.parametrize(("header", "host"), [("[::1]:1", "::1"), ("A.b.:1", "a.b"), ("a,b", ""), ("", "")])
def test_the_name_of_a_header(header: str, host: str) -> None:
    assert host_of(header) == host


def test_each_name_is_logged_once_and_few_of_them() -> None:
    """Who asks chooses the name: neither its text nor how many there are may fill the log."""
    world = World([DEAL])
    with capture_logs() as logged:
        for host in ("evil.example", "EVIL.example:81", "bad\tname", "x" * 300, "evil.example"):
            world.web.get("/", headers={"Host": host})
    said = {"event": "console.refused", "log_level": "warning", "status": 421, "reason": "host"}
    assert logged == [{**said, "host": "evil.example"}, {**said, "host": ""}]
    with capture_logs() as logged:
        for number in range(200):
            world.web.get("/", headers={"Host": f"{number}.{'long.' * 45}example"})
    assert len(logged) == 48
    assert all(len(line["host"]) <= 253 for line in logged)


def test_the_pages_of_several_connections_keep_to_the_same(world: World) -> None:
    settings = world.wired.settings
    console = console_of_several(settings, lambda _: None, lambda: {"acme": world.facts}, world.told.append)
    web = Client(Application(lambda: world.facts, lambda: b"", console=console))
    for path in ("/", "/?connection=acme", "/deals?connection=acme", "/deals/1?connection=acme"):
        assert web.get(path, headers={"Host": "evil.example"}).status_code == 421, path
        assert web.get(path, headers={"Host": "cosell.example.com"}).status_code in {200, 404}, path


def test_the_guard_knows_nothing_but_what_is_listed() -> None:
    assert not Hosts(["", "[", "https://x.example"]).knows("")
    assert not Hosts(["https://x.example"]).knows("x.example")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nhost: localhost\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n localhost\r\n", 421),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n", 400),
        ("GET / HTTP/1.0\r\n", 421),
        ("GET /livez HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n", 200),
        ("GET /readyz HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n", 200),
    ],
)
def test_several_hosts_in_one_request_are_none(world: World, head: str, status: int) -> None:
    """On the wire, where the server behind takes the last of several."""
    with Listener(("127.0.0.1", 0), world.application) as listener:
        port = int(listener.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(f"{head}Connection: close\r\n\r\n".encode())
            answer = client.makefile("rb").readline()
    assert int(answer.split()[1]) == status
