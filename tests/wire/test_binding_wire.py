"""A store belongs to one org and one tenant: with the installed command, against both CRMs, what another one gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import Stage, staged
from wired_program import cycle, wired_program

from cosell_sync.errors import ForeignSystem, Unavailable
from cosell_sync.sandbox.systems import Sandbox

pytestmark = pytest.mark.wire

ANOTHER = {"salesforce": "00DWs000003XYZaMAO", "dynamics": "11111111-2222-4333-8444-555555555555"}
TENANT = "77777777-0000-4000-8000-00000000a001"


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm)


def copied(stage: Stage) -> str:
    """The org becomes its own full copy: every record with the id that it had, another organization. Returns the new id."""
    org = stage.sandbox.salesforce if stage.sandbox.crm == "salesforce" else stage.sandbox.dynamics
    org.organization_id = ANOTHER[stage.sandbox.crm]
    return org.organization_id


def organization(stage: Stage) -> str:
    org = stage.sandbox.salesforce if stage.sandbox.crm == "salesforce" else stage.sandbox.dynamics
    return str(org.organization_id)


def reads(stage: Stage) -> list[str]:
    """Calls that read or write records; signing in and asking who answers are none."""
    return [
        call.path
        for server in stage.servers
        for call in list(server.calls)
        if "oauth2" not in call.path and ".well-known" not in call.path and not call.path.endswith("/WhoAmI")
    ]


def test_a_full_copy_with_the_same_ids_gets_nothing_and_gives_nothing(stage: Stage) -> None:
    """A refreshed sandbox holds production's ids: what testers do there must not reach Microsoft."""
    deal = stage.add()
    stage.sync()
    stage.quiet()
    was = organization(stage)
    now = copied(stage)
    stage.seller(deal, name="Test data of a tester", value=1)
    stage.forget_calls()
    for command in ("sync", "plan"):
        done = stage.cosell(command, expect=2)
        assert was in done.sentences
        assert now in done.sentences
        assert "connection rebind default" in done.sentences
    assert reads(stage) == []
    stage.cosell("sync", "--accept", expect=2)
    assert reads(stage) == []
    assert stage.referral(deal)["details"]["dealValue"] == 84000


def test_another_org_behind_the_same_store_gets_no_deals(stage: Stage, tmp_path: Path) -> None:
    """Not even one that is empty and has our fields: the deals would be made anew there, and all be In sync."""
    stage.add()
    stage.sync()
    with Sandbox(crm=stage.sandbox.crm) as other:
        there = other.salesforce if other.crm == "salesforce" else other.dynamics
        there.organization_id = ANOTHER[other.crm]
        elsewhere = tmp_path / "other"
        elsewhere.mkdir()
        env = other.environment(elsewhere)
        both = tmp_path / "both.pem"
        both.write_text(
            Path(env["SSL_CERT_FILE"]).read_text() + Path(stage.environment()["SSL_CERT_FILE"]).read_text()
        )
        mine = {
            name: value
            for name, value in env.items()
            if name.startswith(("COSELL_SALESFORCE", "COSELL_DYNAMICS"))
        }
        trust = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(both))
        for args in (("sync",), ("sync", "--accept"), ("plan",)):
            done = stage.cosell(*args, expect=2, **mine, **trust)
            assert ANOTHER[other.crm] in done.sentences
        made = there.rows("Opportunity" if other.crm == "salesforce" else "opportunity")
        assert made == []
    stage.quiet()


def test_another_kind_of_crm_behind_the_same_store_is_refused_before_anything_is_contacted(
    stage: Stage,
) -> None:
    stage.add()
    stage.sync()
    other = "dynamics" if stage.sandbox.crm == "salesforce" else "salesforce"
    env = stage.sandbox._dynamics() if other == "dynamics" else stage.sandbox._salesforce()
    stage.forget_calls()
    done = stage.cosell("sync", expect=2, COSELL_CRM=other, **env)
    assert {"Salesforce", "Dynamics"} <= set(done.sentences.split())
    assert stage.api_calls() == (0, 0)


def test_another_tenant_behind_the_same_store_is_refused(stage: Stage) -> None:
    """The store keeps its sign-in: the first tenant goes on as if nothing had been."""
    stage.add()
    stage.sync()
    entra = stage.pc.entra
    own, entra.tenant = entra.tenant, TENANT
    seed = entra.issue_refresh_token()
    stage.forget_calls()
    done = stage.cosell("sync", expect=2, COSELL_PARTNER_CENTER__REFRESH_TOKEN=seed)
    assert own in done.sentences
    assert TENANT in done.sentences
    assert reads(stage) == []
    entra.tenant = own
    stage.quiet()


def test_an_address_where_nobody_answers_binds_nothing(stage: Stage) -> None:
    """A mistyped address is corrected in the configuration, and nothing else needs a hand."""
    stage.add()
    stage.sync(expect=3, COSELL_PARTNER_CENTER__BASE_URL="https://127.0.0.1:9")
    (unbound,) = stage.cosell("connection", "list", "--json").json()
    assert (unbound["organization"], unbound["tenant"]) == (None, None)
    stage.sync()
    (bound,) = stage.cosell("connection", "list", "--json").json()
    assert bound["tenant"] == stage.pc.entra.tenant


def test_the_check_costs_no_call(stage: Stage) -> None:
    """The sign-in names Salesforce's org; Dataverse's question was asked anyway. What a cycle cost, it costs still."""
    stage.add()
    stage.sync()
    stage.forget_calls()
    before = stage.quiet().calls
    asked = [call.path for call in list(stage.servers[1].calls) if call.path.endswith("/WhoAmI")]
    assert len(asked) == (1 if stage.sandbox.crm == "dynamics" else 0)
    assert stage.quiet().calls == before


def test_doctor_and_list_show_to_whom_the_store_belongs(stage: Stage) -> None:
    rows = {row["name"]: row for row in stage.cosell("doctor", "--json", expect=None).json()["checks"]}
    assert organization(stage) in rows["connection"]["message"]
    (unbound,) = stage.cosell("connection", "list", "--json").json()
    assert (unbound["organization"], unbound["bound"]) == (None, False)
    stage.sync()
    (bound,) = stage.cosell("connection", "list", "--json").json()
    assert (bound["name"], bound["crm"], bound["organization"], bound["tenant"]) == (
        "default",
        stage.sandbox.crm,
        organization(stage),
        stage.pc.entra.tenant,
    )
    was, now = bound["organization"], copied(stage)
    rows = {row["name"]: row for row in stage.cosell("doctor", "--json", expect=1).json()["checks"]}
    assert rows["connection"]["status"] == "fault"
    assert was in rows["connection"]["message"]
    assert now in rows["connection"]["message"]
    assert "connection rebind" in rows["connection"]["todo"]


def test_a_refreshed_sandbox_is_taken_after_its_deals_were_found_there(stage: Stage) -> None:
    """It merges as at first sight: nothing is deleted or made anew, edits travel again, and then it is quiet."""
    deals = [stage.add() for _ in range(3)]
    stage.sync()
    now = copied(stage)
    stage.sync(expect=2)
    done = stage.cosell("connection", "rebind", "default")
    assert now in done.out
    assert "3 deals" in done.out
    assert "Nothing to do" in stage.cosell("connection", "rebind", "default").out
    stage.sync()
    stage.quiet()
    assert len(stage.crm.rows("opportunity")) == 3
    stage.seller(deals[0], value=4711)
    stage.sync()
    assert stage.referral(deals[0])["details"]["dealValue"] == 4711


def test_an_org_that_has_none_of_the_deals_is_not_taken_without_force(stage: Stage) -> None:
    deals = [stage.add() for _ in range(3)]
    stage.sync()
    copied(stage)
    for deal in deals:
        stage.crm.delete("opportunity", stage.deal(deal)["id"])
    done = stage.cosell("connection", "rebind", "default", expect=2)
    assert "0 of 3" in done.sentences
    assert "--force" in done.sentences
    stage.sync(expect=2)
    stage.cosell("connection", "rebind", "elsewhere", expect=2)
    stage.cosell("connection", "rebind", "default", "--force")
    stage.sync(expect=None)
    assert all(stage.status(deal)[0] == "Active" for deal in deals)


def test_a_renamed_host_is_asked_about_once(stage: Stage) -> None:
    """The same org under a new address: one word of a person, and everything goes on; what was agreed stays agreed."""
    deal = stage.add()
    stage.sync()
    name = "SALESFORCE__LOGIN_URL" if stage.sandbox.crm == "salesforce" else "DYNAMICS__URL"
    url = stage.crm.server.url
    was, now = ("localhost", "127.0.0.1") if "localhost" in url else ("127.0.0.1", "localhost")
    renamed = {f"COSELL_{name}": url.replace(was, now)}
    if stage.sandbox.crm == "dynamics":
        stage.sandbox.dynamics.entra.resource = url.replace(was, now)
    done = stage.sync(expect=2, **renamed)
    assert f"at {was}" in done.sentences
    assert f"at {now}" in done.sentences
    stage.cosell("connection", "rebind", "default", **renamed)
    stage.seller(deal, value=4711)
    stage.sync(**renamed)
    assert stage.referral(deal)["details"]["dealValue"] == 4711
    stage.quiet(**renamed)


def test_the_daemon_ends_with_exit_code_two(stage: Stage) -> None:
    stage.sync()
    copied(stage)
    done = stage.cosell("run", expect=2, process=True, COSELL_HTTP__LISTEN="127.0.0.1:0")
    assert "connection rebind" in done.sentences


def test_an_org_that_becomes_another_one_under_a_running_program(tmp_path: Path) -> None:
    """Refreshed between two cycles: the old session is refused in the middle of the next one, and signing in again leads to
    the copy. Nothing is read or written there.
    """
    with wired_program(tmp_path, "salesforce", deals=3) as play, play.process() as wired:
        cycle(wired)
        cycle(wired)
        play.org.organization_id = ANOTHER["salesforce"]
        for server in play.servers:
            server.calls.clear()
        before = play.org.api_used
        with pytest.raises(Unavailable) as caught:
            cycle(wired)
        assert caught.value.code == "other_account"
        with pytest.raises(Unavailable):  # whatever else of that cycle is under way
            wired.crm.fetch(["006000000000001AAA"])
        with pytest.raises(ForeignSystem):
            cycle(wired)
        assert play.mutations() == 0
        assert play.org.api_used == before


def test_an_environment_that_was_copied_over_under_a_running_program(tmp_path: Path) -> None:
    """Dataverse's tokens go on serving, so it is asked with each new one, and whenever the environment is read again."""
    with wired_program(tmp_path, "dynamics", deals=3) as play, play.process() as wired:
        cycle(wired)
        play.org.organization_id = ANOTHER["dynamics"]
        wired.crm.forget_shape()
        for server in play.servers:
            server.calls.clear()
        with pytest.raises(ForeignSystem):
            cycle(wired)
        assert [call.path.rpartition("/")[2] for call in list(play.servers[1].calls)] == ["WhoAmI"]
