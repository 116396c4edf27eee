"""The table of AADSTS numbers: every row has a cure that can be followed, and the page for admins lists them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cosell_sync.sandbox.aadsts import REFUSALS
from cosell_sync.transport.aadsts import CURES, Way, cure, number_of, told

PAGE = Path(__file__).parents[2] / "docs" / "partner-center-setup.md"
BY_A_PERSON = (Way.BROWSER, Way.PASTE, Way.DEVICE_CODE)
# Each with words that its cure must have, where a person signed in by browser, and where the stored sign-in was refused.
KNOWN = {
    50011: "add http://localhost to the app registration",
    50020: "work account of the tenant",
    50034: "work account of the tenant",
    50076: "sign in again as a user with MFA",
    50078: "sign in again as a user with MFA",
    50079: "https://aka.ms/mfasetup",
    50126: "user name and password",
    50173: "run cosell-sync login",
    53003: "Conditional Access",
    65001: "Grant admin consent",
    70043: "sign-in frequency",
    500011: "delegated permission of Microsoft Partner",
    700016: "partner_center.client_id",
    700082: "run cosell-sync login",
    700084: "Mobile and desktop applications",
    7000215: "partner_center.client_secret is wrong",
    7000218: "Allow public client flows",
    7000222: "partner_center.client_secret has expired",
    90002: "partner_center.tenant_id",
    90072: "work account of the tenant",
}
POLICIES = (53000, 53003, 530033, 530036)


@pytest.mark.parametrize("number", KNOWN)
def test_the_numbers_that_partners_meet_have_their_cure(number: int) -> None:
    assert KNOWN[number] in cure(number, Way.BROWSER)
    assert KNOWN[number] in cure(number, Way.REFRESH)


@pytest.mark.parametrize("number", CURES)
def test_every_row_says_what_it_means_and_what_to_do(number: int) -> None:
    row = CURES[number]
    assert row.means
    for way in (*BY_A_PERSON, Way.REFRESH):
        assert len(cure(number, way)) > 15, way
    assert not row.means.endswith(".")
    assert "dynamics." not in row.login, "that would be another sign-in's setting"
    assert "partner_center." not in row.application


@pytest.mark.parametrize("number", POLICIES)
@pytest.mark.parametrize("way", BY_A_PERSON)
def test_what_a_policy_blocked_is_not_what_is_advised(number: int, way: Way) -> None:
    advice = cure(number, way)
    assert f"--{way}" not in advice
    assert not re.search(r"cosell-sync login(?! --)", advice), "which may be the same way again"
    if way is Way.DEVICE_CODE:
        assert "--browser" in advice
        assert "--paste" in advice
    else:
        assert "administrator" in advice


@pytest.mark.parametrize("number", [53003, 530033, 530036])
def test_a_stored_sign_in_that_came_from_a_device_code_is_made_anew_in_another_way(number: int) -> None:
    advice = cure(number, Way.REFRESH)
    assert "--browser" in advice
    assert "--paste" in advice
    assert "--device-code" not in advice


def test_the_sandbox_can_refuse_with_every_number_of_the_table() -> None:
    assert set(REFUSALS) == set(CURES)


def test_a_number_is_found_wherever_it_stands() -> None:
    assert number_of({"error_description": "AADSTS53003: No. Trace ID: 1"}) == 53003
    assert number_of({"error_description": "no number", "error_codes": [65001]}) == 65001
    for odd in (
        {},
        {"error_codes": []},
        {"error_codes": ["x"]},
        {"error_codes": 7},
        {"error_description": 5},
    ):
        assert number_of(odd) is None
    assert number_of({"error_description": "AADSTS123456789"}) is None


def test_a_number_that_nobody_knows_is_told_without_advice() -> None:
    assert told("invalid_grant", 1234567) == "Microsoft refused the sign-in (invalid_grant, AADSTS1234567)"
    assert told("invalid_grant", None) == "Microsoft refused the sign-in (invalid_grant)"
    assert cure(1234567, Way.BROWSER) == cure(None, Way.BROWSER) == ""


def listing() -> str:
    """The table of the page."""
    lines = ["| AADSTS | what it means | what to do |", "|---|---|---|"]
    for number, row in sorted(CURES.items(), key=lambda item: str(item[0])):
        first = row.instead.get(Way.DEVICE_CODE)
        todo = f"{row.login}. After a device code: {first}" if first else row.login
        lines.append(f"| {number} | {row.means} | {todo} |")
    return "\n".join(lines)


def test_the_page_is_the_table() -> None:
    """`.venv/bin/python tests/adapters/test_aadsts.py` writes it anew."""
    assert (
        PAGE.read_text(encoding="utf-8").split("<!-- cures -->\n")[1].split("\n<!-- /cures -->")[0]
        == listing()
    )


if __name__ == "__main__":
    before, rest = PAGE.read_text(encoding="utf-8").split("<!-- cures -->\n")
    after = rest.split("\n<!-- /cures -->")[1]
    PAGE.write_text(f"{before}<!-- cures -->\n{listing()}\n<!-- /cures -->{after}", encoding="utf-8")
