"""``connection`` and ``--connection``: which connection a command serves, and what is told of each; nobody is contacted."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from main_in_process import Ended, run_main

from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.cli import connection_forget
from cosell_sync.cli.doctor import _neighbours, _same_org
from cosell_sync.cli.lazy import load_command
from cosell_sync.cli.names import ALL_CONNECTIONS, COMMANDS
from cosell_sync.core.deal import Side
from cosell_sync.errors import ForeignSystem
from cosell_sync.ports import Identity, Transaction
from cosell_sync.settings import Configuration
from cosell_sync.store import connections
from cosell_sync.store.open import open_store

pytestmark = pytest.mark.wire
TENANTS = {"acme": "11111111-aaaa-4000-8000-000000000001", "beta": "22222222-aaaa-4000-8000-000000000002"}


class Installation:
    """``acme`` and ``beta``, well configured, over one SQLite store, and ``wrong``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "provider.yaml"
        self.url = f"sqlite:///{folder / 'cosell-sync.db'}"
        lines = ["connections:"]
        for name, tenant in TENANTS.items():
            lines += [
                f"  {name}:",
                f"    partner_center: {{tenant_id: {tenant}, client_id: c, refresh_token: r}}",
                f"    salesforce: {{login_url: 'https://{name}.my.salesforce.com', consumer_key: k, consumer_secret: s}}",
            ]
        self.file.write_text("\n".join([*lines, "  wrong: {sync: {interval: soon}}", ""]))

    def __call__(self, *args: str, expect: int = 0) -> Ended:
        done = run_main([*args, "--config", str(self.file)], {}, self.folder)
        assert done.code == expect, done
        return done

    def listed(self) -> dict[str, Any]:
        return {row["name"]: row for row in json.loads(self("connection", "list", "--json").out)}

    def bind(self, name: str, account: str, tenant: str, host: str = "") -> None:
        store = open_store(self.url, utc_now, connection=name)
        with store.lease(utc_now() - utc_now()):
            store.commit(
                Transaction(
                    bindings={
                        Side.CRM: Identity("salesforce", account, host or f"{name}.my.salesforce.com"),
                        Side.PARTNER_CENTER: Identity("partner_center", tenant, "api.example"),
                    }
                )
            )
        store.close()


@pytest.fixture
def cosell(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_every_command_that_serves_one_connection_takes_its_name() -> None:
    """All that read a configuration do, but those over the whole of it."""
    for name in COMMANDS:
        command = load_command(name)
        leaves = getattr(command, "commands", None) or {"": command}
        for word, leaf in leaves.items():
            options = {option for each in leaf.params for option in each.opts}
            wanted = "--config" in options and f"{name} {word}".strip() not in ALL_CONNECTIONS
            assert ("--connection" in options) == wanted, (name, word)


def test_without_a_name_the_one_called_default_is_meant(cosell: Installation) -> None:
    for args in (
        ("deals", "list"),
        ("plan",),
        ("sync",),
        ("login",),
        ("config", "show", "--connection", "x"),
    ):
        told = cosell(*args, expect=2).err
        assert "there is no connection" in told
        assert "acme, beta, wrong" in told
    assert cosell("deals", "list", "--connection", "acme").out == "No deals.\n"
    assert "connections.wrong.sync.interval" in cosell("deals", "list", "--connection", "wrong", expect=2).err
    cosell.file.write_text(cosell.file.read_text().replace("  acme:", "  default:"))
    assert cosell("deals", "list").out == "No deals.\n"


def test_the_list_names_each_with_its_state_and_why(cosell: Installation) -> None:
    cosell.bind("beta", "00Dbeta", "33333333-aaaa-4000-8000-000000000003")  # another than is configured now
    rows = cosell.listed()
    assert {name: row["state"] for name, row in rows.items()} == {
        "acme": "active",
        "beta": "misconfigured",
        "wrong": "misconfigured",
    }
    assert "this store belongs to" in rows["beta"]["reason"]
    assert rows["beta"]["organization"] == "00Dbeta"
    assert f"{cosell.file}:8" in rows["wrong"]["reason"]
    assert "misconfigured" in cosell("connection", "list").out


def test_pausing_is_kept_and_resumed(cosell: Installation) -> None:
    cosell("connection", "pause", "acme")
    assert cosell.listed()["acme"]["state"] == "paused"
    assert cosell.listed()["beta"]["state"] == "active"
    told = cosell("sync", "--connection", "acme", expect=2).err
    assert "paused since" in told
    assert "connection resume acme" in told
    cosell("connection", "resume", "acme")
    assert cosell.listed()["acme"]["state"] == "active"
    assert "there is no connection nobody" in cosell("connection", "pause", "nobody", expect=2).err


def test_check_tells_every_mistake_of_every_connection(cosell: Installation) -> None:
    cosell.file.write_text(f"{cosell.file.read_text()}  odd: {{snyc: {{interval: 5m}}}}\n")
    told = cosell("config", "check", expect=2).err
    assert "connections.wrong.sync.interval" in told
    assert "connections.odd.snyc" in told
    assert f"{cosell.file}:9" in told
    lines = cosell.file.read_text().splitlines()
    same = [line.replace("beta.my", "acme.my") for line in lines if "wrong" not in line and "odd" not in line]
    cosell.file.write_text("\n".join(same))
    shown = cosell("config", "check").out
    assert "Warning: connections.acme and connections.beta write to the same CRM" in shown
    assert "valid for 2 connections" in shown


def test_the_effective_values_are_those_of_the_connection(cosell: Installation) -> None:
    shown = json.loads(cosell("config", "show", "--json", "--connection", "beta").out)
    assert shown["salesforce"]["login_url"] == "https://beta.my.salesforce.com"
    assert shown["salesforce"]["consumer_secret"] == "**********"
    top = json.loads(cosell("config", "show", "--json").out)
    assert top["connections"] == ["acme", "beta", "wrong"]
    assert top["salesforce"]["login_url"] is None


def test_two_connections_in_one_org_are_seen_whatever_its_address_is(cosell: Installation) -> None:
    cosell.bind("acme", "00Dsame", TENANTS["acme"])
    cosell.bind("beta", "00Dsame", TENANTS["beta"])
    store = open_store(cosell.url, utc_now, connection="acme")
    wired: Any = SimpleNamespace(store=store, settings=SimpleNamespace(connection="acme"))
    # their hosts differ, and the id alone says that it is one org
    assert [(row.name, row.status) for row in _same_org(wired)] == [("same_org", "warning")]
    with pytest.raises(ForeignSystem):
        cosell.bind("beta", "00Dsame", TENANTS["acme"], "acme.my.salesforce.com")
    cosell("connection", "pause", "acme")  # as an administrator was told, who then resumes it all the same
    cosell.bind("beta", "00Dsame", TENANTS["acme"])
    cosell("connection", "resume", "acme")
    assert [(row.name, row.status) for row in _same_org(wired)] == [("same_org", "fault")]
    cosell("connection", "pause", "beta")
    assert list(_same_org(wired)) == [], "what is paused writes nothing"
    cosell("connection", "resume", "beta")
    new = open_store(cosell.url, utc_now, connection="acme-eu")
    renamed: Any = SimpleNamespace(
        store=new,
        settings=SimpleNamespace(connection="acme-eu"),
        crm=SimpleNamespace(identity=lambda: Identity("salesforce", "00Dsame", "")),
        referrals=SimpleNamespace(identity=lambda: Identity("partner_center", TENANTS["acme"], "")),
    )
    found = [(row.status, row.message.split()[2]) for row in _same_org(renamed)]
    assert found == [("fault", "acme"), ("fault", "beta")], "before its first cycle, which would stop"
    new.close()
    cosell.bind("beta", "00Dother", TENANTS["acme"])
    assert list(_same_org(wired)) == []
    store.close()


def without(cosell: Installation, name: str) -> None:
    """Take a connection out of the configuration."""
    lines = cosell.file.read_text().splitlines()
    at = lines.index(f"  {name}:")
    cosell.file.write_text("\n".join([*lines[:at], *lines[at + 3 :], ""]))


def test_what_is_configured_no_more_is_listed_and_can_be_forgotten(cosell: Installation) -> None:
    cosell.bind("acme", "00Dacme", TENANTS["acme"])
    cosell.bind("beta", "00Dbeta", TENANTS["beta"])
    told = cosell("connection", "forget", "acme", "--yes", expect=2).err
    assert "acme is still configured" in told
    without(cosell, "acme")
    row = cosell.listed()["acme"]
    assert (row["state"], row["organization"]) == ("not configured", "00Dacme")
    assert "connection forget acme" in row["reason"]
    configuration = Configuration(cosell.file)
    (hint,) = [row.todo for row in _neighbours(configuration, configuration.settings("beta"))]
    assert hint == "cosell-sync connection forget acme"
    told = cosell("connection", "forget", "acme", expect=2).err
    assert "bindings 2. Nothing was removed yet" in told
    assert "--yes" in told
    assert "acme" in cosell.listed()
    done = json.loads(cosell("connection", "forget", "acme", "--yes", "--json").out)
    assert (done["connection"], done["removed"], done["still_configured"]) == ("acme", {"bindings": 2}, False)
    assert "docs/uninstall.md" in done["untouched"]
    assert set(cosell.listed()) == {"beta", "wrong"}
    assert cosell.listed()["beta"]["organization"] == "00Dbeta"
    assert list(_neighbours(configuration, configuration.settings("beta"))) == []
    cosell.bind("old", "00Dold", "t")
    told = cosell("connection", "forget", "acme", "--yes", expect=2).err
    assert "no store of this configuration keeps anything for a connection acme" in told
    assert "those left over: old" in told


def test_a_store_that_is_misconfigured_hides_what_is_left_over_in_no_other(cosell: Installation) -> None:
    cosell.bind("old", "00Dold", "t")
    cosell.file.write_text(f"{cosell.file.read_text()}  odd: {{store: {{url: 'mysql://x/y'}}}}\n")
    rows = cosell.listed()
    assert (rows["odd"]["state"], rows["old"]["state"]) == ("misconfigured", "not configured")
    cosell("connection", "forget", "old", "--yes")
    assert "old" not in cosell.listed()


def test_what_is_forgotten_and_still_configured_waits_until_it_is_resumed(cosell: Installation) -> None:
    cosell.bind("acme", "00Dacme", TENANTS["acme"])
    done = cosell("connection", "forget", "acme", "--yes", "--force")
    assert "This removes of acme, for ever: bindings 2." in done.err, "before anything is removed"
    told = done.out
    assert told.startswith("Removed of acme: bindings 2.")
    assert "connection resume acme" in told
    row = cosell.listed()["acme"]
    assert (row["state"], row["bound"]) == ("paused", False)
    cosell("connection", "resume", "acme")
    cosell.bind("acme", "00Dother", TENANTS["acme"])


def test_the_unnamed_connection_is_forgotten_by_the_name_it_has_in_the_store(cosell: Installation) -> None:
    cosell.file.write_text("salesforce: {login_url: 'https://acme.my.salesforce.com'}\n")
    cosell.bind("default", "00Dacme", TENANTS["acme"])
    assert "default is still configured" in cosell("connection", "forget", "default", "--yes", expect=2).err
    cosell.file.write_text("connections: {acme: {crm: dynamics}}\n")
    assert cosell.listed()["default"]["state"] == "not configured"
    cosell("connection", "forget", "default", "--yes")
    assert set(cosell.listed()) == {"acme"}


def test_nothing_is_forgotten_that_a_process_serves(cosell: Installation) -> None:
    """It may have begun with a configuration that still has the connection, and would read everything again."""
    cosell.bind("acme", "00Dacme", TENANTS["acme"])
    without(cosell, "acme")
    store = open_store(cosell.url, utc_now, connection="acme")
    with store.lease(timedelta()):
        told = cosell("connection", "forget", "acme", "--yes", "--force", expect=3).err
        assert f"another cosell-sync holds the store: {store.holder()}" in told
    connections.put_off(store.engine, "acme", utc_now() - timedelta(minutes=1))
    told = cosell("connection", "forget", "acme", "--yes", expect=2).err
    assert "said that its next cycle is at" in told
    assert "restart every cosell-sync run" in told
    assert cosell.listed()["acme"]["bound"]
    connections.pause(store.engine, "acme", utc_now())  # whoever serves it leaves it alone
    cosell("connection", "forget", "acme", "--yes")
    store.close()
    again = open_store(cosell.url, utc_now, connection="acme")
    for ago, code in ((4, 2), (6, 0)):
        connections.put_off(again.engine, "acme", utc_now() - timedelta(minutes=ago))
        cosell("connection", "forget", "acme", "--yes", expect=code)
    again.close()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 2), ("", 2)])
def test_on_a_terminal_it_asks_first(
    cosell: Installation, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    cosell.bind("acme", "00Dacme", TENANTS["acme"])
    without(cosell, "acme")

    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(connection_forget, "sys", SimpleNamespace(stdin=terminal, stderr=terminal))
    monkeypatch.setattr(typer, "confirm", lambda text, err: bool(err and text) and answer == "y")
    told = cosell("connection", "forget", "acme", expect=code).err
    assert "This removes of acme, for ever: bindings 2." in told
    assert ("acme" in cosell.listed()) == (code == 2)


def test_run_begins_with_nobody_where_all_are_misconfigured(cosell: Installation) -> None:
    cosell.file.write_text("connections:\n  wrong: {sync: {interval: soon}}\n  empty:\n")
    told = cosell("run", expect=2).err
    assert "connections.wrong.sync.interval" in told
    assert "connections.empty.partner_center.tenant_id" in told
