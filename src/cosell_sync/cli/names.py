"""The commands in the order of ``--help``, each with its help line. A test compares the lines with the commands' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

COMMANDS: Final[Mapping[str, str]] = {
    "init": "Write a commented configuration after a few questions, or from --crm and --set.",
    "demo": "Show the whole product in one command: a sandbox, a pipeline, people on both sides, and proof of agreement.",
    "sync": "Run one full cycle, then exit: 0 nothing needs a person, 1 some deal does, 3 a system is out of reach.",
    "run": "Run cycles every sync.interval until stopped, with health, metrics and the console on http.listen.",
    "worker": "Serve connections from the queue that all workers on one PostgreSQL share; else as run. Needs the extra "
    '"workers".',
    "health": "Ask the running daemon whether it carries edits: 0 ready, 1 not; with the reasons, those of single connections as well.",
    "plan": "Show what the next sync would write, old and new, and why, a line for each deal. Writes nothing anywhere.",
    "doctor": "Check settings, reachability, sign-ins, fields, stages and rights; each fault with its remedy.",
    "login": "Sign in to Partner Center as a user with MFA, and store the refresh token, encrypted. Exits 0, 2 or 3.",
    "provision": "Create what is missing in the CRM: fields, child object, keys, list views, rights; in Salesforce also a "
    "validation rule, a panel, buttons, a compact layout and reports.",
    "sandbox": "Serve a fake Partner Center, Salesforce and Dataverse over TLS on loopback until Ctrl-C, and print how to "
    "use them.",
    "backup": "Write the store and its key to one file; the daemon may go on meanwhile.",
    "restore": "Put a backup in the place of the store, on the same database or another; stop the daemon first.",
    "support-bundle": "Write version, masked settings, doctor, last cycles and counts to one file, without secrets or people.",
    "deals": "See deals and free what is stuck. Deals go by referral id or opportunity id.",
    "webhooks": "See, make and test the registration for Partner Center's events; there is one for the whole tenant.",
    "notices": "Try the receivers of notices: Teams and Slack channels, and addresses of your own.",
    "connection": "See the connections and to which org and tenant each belongs; pause, resume, move or forget one.",
    "config": "Validate the configuration, print it with secrets masked, or print its JSON Schema.",
}
# Commands over the whole configuration; every other one that reads it serves one connection, and takes ``--connection``.
ALL_CONNECTIONS: Final = frozenset(
    {
        "run",
        "worker",
        "health",
        "config check",
        "connection list",
        "connection pause",
        "connection resume",
        "connection rebind",
        "connection forget",
    }
)
