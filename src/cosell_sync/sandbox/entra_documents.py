"""What the fake sign-in service says of itself and of a user: discovery documents and JSON web tokens."""

import base64
import json
import secrets
import time


def instance(base: str, tenant: str) -> dict[str, object]:
    """The answer to instance discovery."""
    return {
        "tenant_discovery_endpoint": f"{base}/{tenant}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [],
    }


def openid(base: str, asked: str, tenant: str) -> dict[str, object]:
    """The tenant's OpenID configuration; ``asked``: under which name."""
    return {
        "issuer": f"{base}/{tenant}/v2.0",
        "authorization_endpoint": f"{base}/{asked}/oauth2/v2.0/authorize",
        "token_endpoint": f"{base}/{asked}/oauth2/v2.0/token",
        "device_authorization_endpoint": f"{base}/{asked}/oauth2/v2.0/devicecode",
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "response_types_supported": ["code", "id_token"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "tenant_region_scope": "EU",
    }


def access_token(audience: str, tenant: str, mfa: bool | None) -> str:
    """A new token of version 1.0; ``mfa`` None: not of a user. Its last part is random, where a signature would be."""
    methods = {} if mfa is None else {"amr": ["pwd", "mfa"] if mfa else ["pwd"]}
    claims = {"aud": audience, "tid": tenant, "ver": "1.0", **methods}
    return f"{base64_json({'typ': 'JWT'})}.{base64_json(claims)}.{secrets.token_urlsafe(32)}"


def id_token(base: str, tenant: str, client_id: str, username: str, nonce: str) -> str:
    """Who signed in, with the real time; ``nonce`` as the request to sign in had it."""
    now = int(time.time())
    claims = {
        "aud": client_id,
        "iss": f"{base}/{tenant}/v2.0",
        "iat": now,
        "nbf": now - 60,
        "exp": now + 3600,
        "oid": "u-0001",
        "sub": "u-0001",
        "tid": tenant,
        "preferred_username": username,
        "name": "Co-sell Service",
        "ver": "2.0",
        **({"nonce": nonce} if nonce else {}),
    }
    return f"{base64_json({'alg': 'none', 'typ': 'JWT'})}.{base64_json(claims)}.{base64_json({})}"


def base64_json(value: object) -> str:
    """JSON as a part of such a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
