"""Refusals of Microsoft's sign-in service: the OAuth error, the AADSTS number, a sentence. Those in `REFUSALS` can be armed.

Numbers and their meanings: learn.microsoft.com/entra/identity-platform/reference-error-codes; 530033 and 530036 as other
programs report them. The OAuth error that comes with a number is documented for few; the others follow RFC 6749.
"""

import secrets
from datetime import datetime


class Refused(Exception):
    """An error answer of the sign-in service."""

    def __init__(self, error: str, number: int, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.error, self.number, self.sentence, self.status = error, number, sentence, status

    def description(self, now: datetime) -> str:
        """The text that goes with the error; Entra appends what its support asks for."""
        return f"AADSTS{self.number}: {self.sentence} Trace ID: {secrets.token_hex(16)} Timestamp: {now:%Y-%m-%d %H:%M:%SZ}"


GRANT, CLIENT, UNAUTHORIZED, REQUEST, RESOURCE = (
    "invalid_grant",
    "invalid_client",
    "unauthorized_client",
    "invalid_request",
    "invalid_resource",
)
_USER = "cosell.service@nordlicht.example"  # real texts name the user, so ours do
REFUSALS: dict[int, tuple[str, str]] = {
    50011: (REQUEST, "The redirect URI specified in the request does not match those configured for the application."),
    50020: (REQUEST, f"User account '{_USER}' from identity provider 'live.com' does not exist in tenant 'Nordlicht'."),
    50034: (GRANT, f"The user account {_USER} does not exist in the directory."),
    50053: (GRANT, f"The account {_USER} is locked, you've tried to sign in too many times."),
    50057: (GRANT, f"The user account {_USER} is disabled."),
    50072: (GRANT, f"The user {_USER} needs to enroll for second factor authentication."),
    50074: (GRANT, "Strong Authentication is required."),
    50076: (GRANT, "Due to a configuration change, you must use multi-factor authentication to access the resource."),
    50078: (GRANT, "Presented multi-factor authentication has expired due to policies of your administrator."),
    50079: (GRANT, "Due to a configuration change, you must enroll in multi-factor authentication."),
    50105: (GRANT, f"The signed in user '{_USER}' is not assigned to a role for the application."),
    50126: (GRANT, "Error validating credentials due to invalid username or password."),
    50173: (GRANT, "The provided grant has expired due to it being revoked, a fresh auth token is needed."),
    53000: (GRANT, "The device is not in required device state: non-compliant."),
    53003: (GRANT, "Access has been blocked by Conditional Access policies."),
    530033: (GRANT, "Remote device flow blocked due to device-based conditional access."),
    530036: (GRANT, "The refresh token is invalid due to authentication flow checks by Conditional Access."),
    65001: (GRANT, "The user or administrator has not consented to use the application."),
    65004: (GRANT, f"The user {_USER} declined to consent to access the app."),
    650057: (RESOURCE, "The client requested a resource which is not listed in the requested permissions."),
    500011: (RESOURCE, "The resource principal named https://api.partner.microsoft.com was not found in the tenant."),
    70008: (GRANT, "The provided authorization code or refresh token has expired due to inactivity."),
    70043: (GRANT, "The refresh token has expired or is invalid due to sign-in frequency checks."),
    700016: (UNAUTHORIZED, "The application was not found in the directory."),
    700025: (CLIENT, "Client is public so neither 'client_assertion' nor 'client_secret' should be presented."),
    700027: (CLIENT, "The certificate used to sign the client assertion is not registered on the application."),
    700082: (GRANT, "The refresh token has expired due to inactivity."),
    700084: (GRANT, "The refresh token was issued to a single page app (SPA) and has expired."),
    7000112: (UNAUTHORIZED, "The application is disabled."),
    7000215: (CLIENT, "Invalid client secret provided."),
    7000218: (CLIENT, "The request body must contain 'client_assertion' or 'client_secret'."),
    7000222: (CLIENT, "The provided client secret keys are expired."),
    90002: (REQUEST, "Tenant 'nordlicht.example' not found."),
    90072: (GRANT, f"User account '{_USER}' from an external identity provider does not exist in the tenant."),
    90094: (GRANT, "An administrator must consent to the permissions of this application."),
    900023: (REQUEST, "Specified tenant identifier is neither a valid DNS name, nor a valid external domain."),
}  # fmt: skip


def refused(number: int) -> Refused:
    """The refusal with that number; LookupError for one that cannot be armed."""
    error, sentence = REFUSALS[number]
    return Refused(error, number, sentence, 401 if error == CLIENT else 400)
