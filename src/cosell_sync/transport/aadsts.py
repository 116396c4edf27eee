"""What refusals of Microsoft's sign-in (Entra ID) ask for: one cure for each AADSTS number, as data.

Partner Center is signed in to by a person (`login`), whose refresh token signs in from then on; Dataverse by an application.
The two ask for different cures of the same number. Where a policy has blocked one way of signing in, its cure names another
way: the advice is never the command that was refused.

Texts of refusals name people and are never shown; the number says what is wrong. Microsoft says that numbers are for people
who look for the cause, and may change: nothing but the advice depends on them.

https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final


class Way(StrEnum):
    """How somebody signed in."""

    BROWSER = "browser"  # authorization code with PKCE, to a loopback address
    PASTE = "paste"  # the same, the answer pasted by hand
    DEVICE_CODE = "device-code"
    REFRESH = "refresh"  # nobody did: by the stored refresh token
    APPLICATION = "application"  # the application itself, to Dataverse


LOGIN: Final = "run cosell-sync login"
OTHERWISE: Final = "run cosell-sync login --browser, or --paste where there is no browser"
_CONSENT: Final = (
    "let an administrator grant consent: Entra admin center > App registrations > this app > API permissions > "
    "Grant admin consent"
)
_POLICY: Final = (
    "let an administrator find the policy in Entra's sign-in logs (tab Conditional Access) and exclude this app and user, or "
    "sign in from where the policy allows it"
)
_WITH_MFA: Final = "sign in again as a user with MFA: run cosell-sync login"
_REGISTER_MFA: Final = (
    "let this user set up MFA at https://aka.ms/mfasetup, then sign in again: run cosell-sync login"
)
_OTHER_USER: Final = "sign in as a work account of the tenant in partner_center.tenant_id; a private browser window asks for the account"


@dataclass(frozen=True)
class Cure:
    """``means``: the refusal in a few words. ``login``: what ends it where a person signs in to Partner Center.

    ``application``: the same where an application signs in to Dataverse; empty where the number does not come there.
    ``instead``: what ends it after one way of signing in, where ``login`` would not.
    """

    means: str
    login: str
    application: str = ""
    instead: Mapping[Way, str] = field(default_factory=dict)

    def after(self, way: Way) -> str:
        """What to do once this way of signing in was refused so; empty where nothing is known for it."""
        return self.application if way is Way.APPLICATION else self.instead.get(way, self.login)


def _blocked(means: str) -> Cure:
    """By a policy: another way of signing in may be allowed. A refresh token belongs to the way that it was got by."""
    after_device_code = f"{OTHERWISE}; or {_POLICY}"
    return Cure(
        means,
        _POLICY,
        f"{_POLICY} (policies for workload identities)",
        {
            Way.DEVICE_CODE: after_device_code,
            Way.REFRESH: f"{_POLICY}; if it blocks device codes: {OTHERWISE}",
        },
    )


CURES: Final[Mapping[int, Cure]] = MappingProxyType(
    {
        # consent and permissions
        65001: Cure("nobody has consented to this app's permissions", f"{_CONSENT}; then {LOGIN}"),
        65004: Cure("the user declined to consent", f"{_CONSENT}; then {LOGIN}"),
        90094: Cure("an administrator must consent to this app's permissions", f"{_CONSENT}; then {LOGIN}"),
        650057: Cure(
            "the app asks for an API that is not among its permissions",
            "add the delegated permission of Microsoft Partner to the app registration (API permissions), and grant admin "
            "consent",
        ),
        500011: Cure(
            "the tenant does not know the API that is asked for",
            "add the delegated permission of Microsoft Partner to the app registration (API permissions), grant admin consent, "
            "and check partner_center.tenant_id: it must be the tenant of the Partner Center account",
            "check dynamics.url: the tenant knows no such environment",
        ),
        50105: Cure(
            "the user is not assigned to this app",
            "assign the user to the app (Entra admin center > Enterprise applications > this app > Users and groups)",
        ),
        # multifactor authentication
        50072: Cure("the user has not set up MFA", _REGISTER_MFA),
        50074: Cure("MFA is required and was not passed", _WITH_MFA),
        50076: Cure("MFA is required now, and this sign-in was made without it", _WITH_MFA),
        50078: Cure("the MFA of this sign-in has expired by the tenant's policy", _WITH_MFA),
        50079: Cure("MFA is required, and this user has not set it up", _REGISTER_MFA),
        # policies
        53000: Cure(
            "a Conditional Access policy asks for a compliant device",
            _POLICY,
            instead={Way.DEVICE_CODE: "sign in on a device that your organization manages: " + OTHERWISE},
        ),
        53003: _blocked("a Conditional Access policy blocks this sign-in"),
        530033: _blocked(
            "a Conditional Access policy does not allow device codes, for they come from another device"
        ),
        530036: Cure(
            "a Conditional Access policy blocks device codes and every token that came from one",
            OTHERWISE,
            instead={Way.BROWSER: _POLICY, Way.PASTE: _POLICY},
        ),
        # what was good once
        50173: Cure("the sign-in was revoked, for example by a new password", LOGIN),
        70008: Cure("the code or token has expired", LOGIN),
        70043: Cure(
            "the sign-in is older than a Conditional Access policy allows (sign-in frequency)",
            f"{LOGIN}; for a sign-in that lasts, let an administrator exclude this user from the policy on sign-in frequency",
        ),
        700082: Cure("the refresh token was not used for 90 days and has expired", LOGIN),
        700084: Cure(
            "the refresh token is one of a single page app and lives for a day only",
            "register the redirect address http://localhost under Mobile and desktop applications, not under Single-page "
            f"application; then {LOGIN}",
        ),
        # the app registration
        50011: Cure(
            "the app registration does not know our redirect address",
            "add http://localhost to the app registration: Authentication > Add a platform > Mobile and desktop applications",
        ),
        700016: Cure(
            "the tenant does not know this app",
            "check partner_center.client_id and partner_center.tenant_id: that tenant knows no such app",
            "check dynamics.client_id and dynamics.tenant_id: that tenant knows no such app",
        ),
        7000112: Cure(
            "the app registration is disabled",
            "enable the app (Entra admin center > Enterprise applications > this app > Properties)",
            "enable the app (Entra admin center > Enterprise applications > this app > Properties)",
        ),
        7000215: Cure(
            "the client secret is wrong",
            "partner_center.client_secret is wrong; it must be the secret's value, not its id",
            "dynamics.client_secret is wrong; it must be the secret's value, not its id",
        ),
        7000222: Cure(
            "the client secret has expired",
            "partner_center.client_secret has expired; make a new one in the app registration",
            "dynamics.client_secret has expired; make a new one in the app registration",
        ),
        7000218: Cure(
            "the app registration asks for a secret",
            "in the app registration set Authentication > Allow public client flows to Yes and register http://localhost under "
            "Mobile and desktop applications; or give the app's secret in partner_center.client_secret",
            "dynamics.client_secret or dynamics.certificate is missing",
        ),
        700025: Cure(
            "the app is a public client, and a secret was sent",
            "remove partner_center.client_secret, or register http://localhost under the platform Web instead of Mobile and "
            "desktop applications",
            "make the app registration a confidential client, with a secret or certificate",
        ),
        700027: Cure(
            "the certificate is not the app's",
            "check partner_center.client_id and the app registration",
            "the certificate of dynamics.certificate is not the one in the app registration, or has expired",
        ),
        # the tenant and the user
        90002: Cure(
            "there is no such tenant",
            "check partner_center.tenant_id and partner_center.authority: there is no such tenant",
            "check dynamics.tenant_id and dynamics.authority: there is no such tenant",
        ),
        900023: Cure(
            "the tenant's id is malformed",
            "check partner_center.tenant_id: it is no tenant id",
            "check dynamics.tenant_id: it is no tenant id",
        ),
        50020: Cure("the user belongs to another tenant", _OTHER_USER),
        50034: Cure("the tenant has no such user", _OTHER_USER),
        90072: Cure("the user belongs to another tenant and cannot pass MFA in this one", _OTHER_USER),
        50126: Cure("user name or password is wrong", f"check user name and password; then {LOGIN}"),
        50057: Cure(
            "the user is disabled", f"let an administrator enable the user, or sign in as another: {LOGIN}"
        ),
        50053: Cure(
            "the user is locked after too many wrong passwords, or the address is blocked",
            f"wait, or let an administrator unblock the user; then {LOGIN}",
        ),
    }
)


def number_of(answer: Mapping[str, Any]) -> int | None:
    """The AADSTS number of a refusal, from its description or from ``error_codes``; None where it has none."""
    found = re.search(r"AADSTS(\d{3,8})(?!\d)", str(answer.get("error_description") or ""))
    if found:
        return int(found[1])
    codes = answer.get("error_codes")
    first = codes[0] if isinstance(codes, list) and codes else None
    return first if isinstance(first, int) and 100 <= first < 10**8 else None


def cure(number: int | None, way: Way) -> str:
    """What to do about that number after that way of signing in; empty where the table does not know it."""
    found = CURES.get(number) if number is not None else None
    return found.after(way) if found else ""


def told(code: str, number: int | None) -> str:
    """The refusal for people: what its number means, where that is known; the code of the token endpoint and the number."""
    found = CURES.get(number) if number is not None else None
    meant = f": {found.means}" if found else ""
    return f"Microsoft refused the sign-in{meant} ({code if number is None else f'{code}, AADSTS{number}'})"
