"""Every endpoint that the program uses, every fault that it is put to, and what comes of each: one set of data.

``test_fault_matrix.py`` plays every cell of it on the wire, and holds the list of endpoints against the code and the
page ``docs/faults.md`` against this data. ``python tests/wire/fault_table.py`` prints the page.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

ROOT = r"/services/data/v[\d.]+"
API = r"/api/data/v9\.2"
TOKEN = {"method": "POST", "path": r"/oauth2/v2\.0/token$"}
LIST = {"method": "GET", "path": r"/engagements/referrals$"}
POST = {"method": "POST", "path": r"/engagements/referrals$"}
DISCOVERY = {"method": "GET", "path": r"/\.well-known/openid-configuration$"}
COMPOSITE = {"method": "POST", "path": rf"{ROOT}/composite$"}
ROWS = rf"{ROOT}/composite/sobjects"


@dataclass(frozen=True)
class Endpoint:
    """``operation``: the method of its harness that uses it. ``match``: which requests are meant, in the terms of a fault.
    ``name``: in the operator's words.
    """

    system: str
    operation: str
    kind: str
    name: str
    match: Mapping[str, Any] = field(default_factory=dict)
    but: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.system}-{self.operation}"


REFUSALS = ("401", "403", "404", "409", "412")
WRONG = ("404", "409", "412")
THROTTLED = ("429", "429_seconds", "429_date")
# Where an endpoint differs from its kind: fault → outcome.
SALESFORCE = {"409": "refused"}
LOOKED = dict.fromkeys(("503", "503_seconds"), "looked")
SALESFORCE_WHOLE = {**dict.fromkeys(("403", *WRONG), "end"), **LOOKED}
SURPRISE = dict.fromkeys(WRONG, "surprise")
SKIPPED = dict.fromkeys(("403", *WRONG), "skipped")
SETUP = dict.fromkeys(("403", *WRONG), "setup")
PC_SIGN_IN = dict.fromkeys(("wrong_json", *WRONG), "end")
LOGIN_CONFIG = dict.fromkeys(REFUSALS, "config")
LOGIN_SPENT = dict.fromkeys(("drip", "reset_after", "truncated"), "code spent")
ENDS = dict.fromkeys(THROTTLED, "end")
FOUR_TRIES = dict.fromkeys(THROTTLED, "retried (4)")

ENDPOINTS = (
    Endpoint("partner_center", "sign_in", "sign-in", "token by refresh token", TOKEN, PC_SIGN_IN),
    Endpoint("partner_center", "login", "sign-in", "`login`: where the tenant signs in", DISCOVERY, LOGIN_CONFIG),
    Endpoint(
        "partner_center", "login", "sign-in", "`login`: the code to type",
        {"method": "POST", "path": "/devicecode$"},
    ),
    Endpoint("partner_center", "login", "sign-in", "`login`: token by that code", TOKEN, LOGIN_SPENT),
    Endpoint("partner_center", "login_by_code", "sign-in", "`login`: token by the code that the browser brings", TOKEN, LOGIN_SPENT),
    Endpoint("partner_center", "listing", "question", "list of referrals", LIST),
    Endpoint("partner_center", "engagement", "question", "the sides of an engagement", LIST),
    Endpoint(
        "partner_center", "one", "record", "one referral",
        {"method": "GET", "path": "/engagements/referrals/."},
    ),
    Endpoint("partner_center", "patch", "guarded", "change of a referral", {"method": "PATCH"}, {"500": "retried, left (3)"}),
    Endpoint("partner_center", "create", "create", "new referral", POST, ENDS),
    Endpoint("partner_center", "invite", "create", "invitation of Microsoft", POST, ENDS),
    Endpoint(
        "salesforce", "sign_in", "sign-in", "token", {"method": "POST", "path": "/services/oauth2/token$"}, {"wrong_json": "auth"}),
    Endpoint(
        "salesforce", "describe", "question", "fields of an object, asked alone",
        {"method": "GET", "path": "/describe$"}, {"403": "end", "404": "absent"}),
    Endpoint("salesforce", "query", "question", "queries", COMPOSITE, {"403": "end"}),
    Endpoint("salesforce", "query_more", "question", "further pages", {"method": "GET", "path": "/query/"}, {"403": "end"}),
    Endpoint(
        "salesforce", "deleted", "question", "log of deletions, asked alone",
        {"method": "GET", "path": "/deleted/?$"}, SKIPPED),
    Endpoint(
        "salesforce", "update", "guarded", "changes of opportunities and accounts",
        {**COMPOSITE, "body": '"method": ?"PATCH"'}, SALESFORCE_WHOLE),
    Endpoint(
        "salesforce", "update_alone", "guarded", "the same one by one (`salesforce.guard_parts: false`)",
        {"method": "PATCH", "path": rf"{ROOT}/sobjects/"}, {**SALESFORCE, **LOOKED}),
    Endpoint(
        "salesforce", "rows_made", "create", "new accounts, contacts and rows",
        {"method": "POST", "path": rf"{ROWS}$"}, SALESFORCE),
    Endpoint(
        "salesforce", "rows_changed", "create", "changes of contacts and rows",
        {"method": "PATCH", "path": rf"{ROWS}$"}, SALESFORCE),
    Endpoint(
        "salesforce", "rows_together", "create", "rows of several kinds in one composite", COMPOSITE, SALESFORCE),
    Endpoint(
        "salesforce", "opportunities_asked", "guarded", "new opportunities, with the question for what they hold then",
        {**COMPOSITE, "body": '"method": ?"PATCH"'}, SALESFORCE),
    Endpoint(
        "salesforce", "opportunities_made", "guarded", "new opportunities, by referral id",
        {"method": "PATCH", "path": f"{ROWS}/Opportunity/"}, SALESFORCE),
    Endpoint(
        "salesforce", "solutions_made", "create", "new solutions, by key",
        {"method": "PATCH", "path": f"{ROWS}/Cosell_Solution__c/"}, SALESFORCE),
    Endpoint(
        "salesforce", "rows_removed", "keyed", "removal of rows", {"method": "DELETE", "path": ROWS}
    ),
    Endpoint(
        "salesforce", "tooling", "question", "`provision`: looking at the setup",
        {"method": "GET", "path": f"{ROOT}/tooling/"}, SETUP),
    Endpoint(
        "salesforce", "deploy", "create", "`provision`: the deployment",
        {"method": "POST", "path": "/metadata/deployRequest$"}, SETUP),
    Endpoint(
        "salesforce", "deploy", "question", "`provision`: how far the deployment is",
        {"method": "GET", "path": "/metadata/deployRequest/"}, SETUP),
    Endpoint(
        "salesforce", "assignment", "create", "`provision`: assignment of the permission set",
        {"method": "POST", "path": "/sobjects/PermissionSetAssignment"}, SETUP),
    Endpoint("dynamics", "sign_in", "sign-in", "where the tenant signs in", DISCOVERY),
    Endpoint("dynamics", "sign_in", "sign-in", "token", TOKEN),
    Endpoint(
        "dynamics", "identity", "sign-in", "token of a managed identity",
        {"method": "GET", "path": "/msi/token$"},
    ),
    Endpoint("dynamics", "who", "question", "who we are", {"method": "GET", "path": f"{API}/WhoAmI"}),
    Endpoint(
        "dynamics", "metadata", "question", "tables, columns, keys",
        {"method": "GET", "path": f"{API}/EntityDefinitions"},
    ),
    Endpoint(
        "dynamics", "optional", "question", "connection roles",
        {"method": "GET", "path": f"{API}/connectionroles"}, {"html": "retried, skipped", "500": "retried, skipped", **SKIPPED}),
    Endpoint(
        "dynamics", "together", "question", "several questions in one batch",
        {"method": "POST", "path": r"/\$batch$"}, {"wrong_json": "retried"}),
    Endpoint("dynamics", "table", "question", "rows of a table", {"method": "GET", "path": f"{API}/opport"}),
    Endpoint(
        "dynamics", "table_more", "question", "further pages",
        {"method": "GET", "path": f"{API}/opport", "skip": 1},
    ),
    Endpoint(
        "dynamics", "tracked", "question", "start of change tracking",
        {"method": "GET", "path": f"{API}/opport"}, {"403": "skipped", **SURPRISE}),
    Endpoint(
        "dynamics", "delta", "question", "what changed since", {"method": "GET", "path": f"{API}/opport"}, {"403": "anew", **SURPRISE}),
    Endpoint(
        "dynamics", "update", "guarded", "change of one row", {"method": "PATCH", "path": f"{API}/opport"}
    ),
    Endpoint(
        "dynamics", "create_by_key", "guarded", "new opportunity, by referral id",
        {"method": "PATCH", "path": f"{API}/opport"},
    ),
    Endpoint(
        "dynamics", "row_removed", "guarded", "removal of one row",
        {"method": "DELETE", "path": f"{API}/contacts"},
    ),
    Endpoint(
        "dynamics", "row_made", "create", "new row", {"method": "POST", "path": f"{API}/contacts"}, FOUR_TRIES),
    Endpoint("dynamics", "win", "create", "win", {"method": "POST", "path": f"{API}/WinOpp"}, FOUR_TRIES),
    Endpoint("dynamics", "lose", "create", "lose", {"method": "POST", "path": f"{API}/LoseOpp"}, FOUR_TRIES),
    Endpoint(
        "dynamics", "batch_guarded", "guarded", "several changes in one batch",
        {"method": "POST", "path": r"/\$batch$"},
    ),
    Endpoint(
        "dynamics", "batch_plain", "create", "several new rows in one batch",
        {"method": "POST", "path": r"/\$batch$"}, FOUR_TRIES),
)  # fmt: skip

# What each system says with a status, in its own shape; the text is one that no log may repeat.
CODES: Mapping[str, Mapping[int, str]] = {
    "partner_center": {401: "unauthenticated", 403: "accessDenied", 404: "itemNotFound",
                       409: "resourceModified", 412: "preconditionFailed", 429: "429", 500: "generalException",
                       503: "serviceUnavailable"},
    "salesforce": {401: "INVALID_SESSION_ID", 403: "INSUFFICIENT_ACCESS", 404: "NOT_FOUND", 409: "CONFLICT",
                   412: "PRECONDITION_FAILED", 429: "TOO_MANY_REQUESTS", 500: "UNKNOWN_EXCEPTION",
                   503: "SERVER_UNAVAILABLE"},
    "dynamics": {401: "0x80040000", 403: "0x80040220", 404: "0x80040217", 409: "", 412: "0x80060882",
                 429: "0x80072322", 500: "0x80040216", 503: ""},
}  # fmt: skip


def said(system: str, status: int, text: str, *, sign_in: bool) -> object:
    """The body of an error as that system words it."""
    code = CODES[system][status]
    if sign_in:
        error = {401: "invalid_client", 403: "unauthorized_client"}.get(status, "invalid_request")
        return {"error": error, "error_description": text}
    if system == "salesforce":
        return [{"errorCode": code, "message": text}]
    if system == "partner_center" and status == 429:
        return {"statusCode": 429, "message": text}
    return {"error": {"code": code, "message": text}}


@dataclass(frozen=True)
class Fault:
    """``kind``: of the sandbox's faults; ``status`` of an answer; ``after``: seconds in its Retry-After, as a number or
    as a date.
    """

    name: str
    words: str
    kind: str = "answer"
    status: int = 0
    after: int = 0
    as_date: bool = False

    def details(self, endpoint: Endpoint, now: datetime, elsewhere: str, text: str) -> dict[str, Any]:
        """What to tell the sandbox."""
        match self.kind:
            case "answer":
                headers = {}
                if self.after:
                    moment = format_datetime(now + timedelta(seconds=self.after), usegmt=True)
                    headers["Retry-After"] = moment if self.as_date else str(self.after)
                sign_in = endpoint.kind == "sign-in"
                answer = said(endpoint.system, self.status, text, sign_in=sign_in)
                return {"status": self.status, "headers": headers, "answer": answer}
            case "html":
                return {"status": self.status}
            case "redirect":
                return {"status": 307, "headers": {"Location": f"{elsewhere}/login"}}
            case "slow":
                return {"seconds": 2.0, "applied": True}
            case "truncate":
                return {"applied": True}
            case "wrong_json":
                return {"answer": ["unexpected", 1, None]}
            case "hang":
                return {"seconds": 1.0}
            case "reset_after":
                return {"applied": True}
        return {}


FAULTS = (
    Fault("timeout", "no answer in time", "hang"),
    Fault("drip", "an answer that drips", "slow"),
    Fault("reset_before", "connection broken before the request was seen", "reset_before"),
    Fault("reset_after", "connection broken after the work was done", "reset_after"),
    Fault("truncated", "an answer cut off", "truncate"),
    Fault("wrong_json", "JSON of another shape", "wrong_json"),
    Fault("html", "a web page (200)", "html", 200),
    Fault("html_502", "a gateway's web page (502)", "html", 502),
    Fault("redirect", "redirect to another host", "redirect"),
    Fault("401", "401", status=401),
    Fault("403", "403", status=403),
    Fault("404", "404", status=404),
    Fault("409", "409", status=409),
    Fault("412", "412", status=412),
    Fault("429", "429", status=429),
    Fault("429_seconds", "429, `Retry-After: 7`", status=429, after=7),
    Fault("429_date", "429, `Retry-After` as a date", status=429, after=9, as_date=True),
    Fault("429_long", "429, `Retry-After: 600`", status=429, after=600),
    Fault("500", "500", status=500),
    Fault("503", "503", status=503),
    Fault("503_seconds", "503, `Retry-After: 7`", status=503, after=7),
)


@dataclass(frozen=True)
class Outcome:
    """``once``: where the fault strikes once; ``lasting``: where it strikes every time, and how often it is tried then.
    ``words``: for an operator.
    """

    once: str
    lasting: str
    tries: int
    words: str


_AGAIN = "asked again within the call, up to five times in two minutes"
_EXIT = "if it lasts, the cycle ends with exit 3 and the next one probes again"
OUTCOMES: Mapping[str, Outcome] = {
    "retried": Outcome("fine", "Unavailable", 5, f"{_AGAIN}; {_EXIT}"),
    "retried (4)": Outcome(
        "fine",
        "Unavailable",
        4,
        f"sent again, for it was refused at the door, four times in all; {_EXIT}",
    ),
    "retried, left": Outcome(
        "fine", "Flaky", 5, f"{_AGAIN}; if it lasts, that deal waits for the next cycle"
    ),
    "retried, left (3)": Outcome(
        "fine",
        "Flaky",
        3,
        "looked at; where nothing landed it is sent again, three times in all; if it lasts, that deal waits for the "
        "next cycle",
    ),
    "retried, looked": Outcome(
        "fine",
        "Unclear",
        5,
        "sent again within the call, up to five times in two minutes; if it lasts, it may have landed: the next cycle looks",
    ),
    "retried, skipped": Outcome("fine", "fine", 5, f"{_AGAIN}; if it lasts, done without"),
    "end": Outcome("Unavailable", "Unavailable", 1, "the cycle ends with exit 3, the next one probes again"),
    "auth": Outcome("AuthFailed", "AuthFailed", 1, "the cycle ends with exit 3 and says what to check"),
    "token": Outcome(
        "fine",
        "AuthFailed",
        2,
        "a new token, then once more; if that is refused too, the cycle ends with exit 3",
    ),
    "config": Outcome("ConfigError", "ConfigError", 1, "the command ends with exit 2 and says what to check"),
    "code spent": Outcome(
        "AuthFailed",
        "Unavailable",
        5,
        "the code may be spent: the command ends with exit 3; run `login` again",
    ),
    "looked": Outcome(
        "Unclear",
        "Unclear",
        1,
        "never sent again blindly: the write stays open, and the next cycle settles it by looking first",
    ),
    "stale": Outcome("Stale", "Stale", 1, "read again and decided again, three times in a cycle at most"),
    "gone": Outcome(
        "Gone", "Gone", 1, "gone or out of sight: looked at again; if it is so, that deal pauses and says so"
    ),
    "refused": Outcome(
        "Rejected",
        "Rejected",
        1,
        "told on the record in the system's words; an attempt of that deal is counted",
    ),
    "left": Outcome("Flaky", "Flaky", 1, "that deal waits for the next cycle"),
    "surprise": Outcome(
        "Surprise",
        "Surprise",
        1,
        "the cycle stops before it writes, with exit 1: something there is not what it was",
    ),
    "anew": Outcome("Expired", "Expired", 1, "everything is read anew and compared, without harm"),
    "skipped": Outcome("fine", "fine", 1, "done without; the full compare finds what this would have told"),
    "absent": Outcome("fine", "fine", 1, "the object counts as missing; what needs it says so"),
    "setup": Outcome("Rejected", "Rejected", 1, "`provision` ends with exit 1 and the org's words"),
}

LOST = ("timeout", "drip", "reset_before", "reset_after", "truncated", "html", "html_502")
BUSY = ("503", "503_seconds")


def _kind(**outcomes: Sequence[str]) -> Mapping[str, str]:
    """Fault → outcome. Ten minutes are longer than any call may wait."""
    names = {"retried_left": "retried, left", "retried_looked": "retried, looked"}
    told = {fault: names.get(outcome, outcome) for outcome, faults in outcomes.items() for fault in faults}
    return {"429_long": "end", "redirect": "end", **told}


KINDS: Mapping[str, Mapping[str, str]] = {
    "sign-in": _kind(retried=(*LOST, "wrong_json", *THROTTLED, "500", *BUSY), auth=REFUSALS),
    "question": _kind(
        retried=(*LOST, *THROTTLED, "500", *BUSY), token=("401",), auth=("403",), end=("wrong_json", *WRONG)
    ),
    "record": _kind(
        retried=(*(each for each in LOST if each != "html"), *THROTTLED, *BUSY),
        token=("401",),
        retried_left=("html", "500"),
        left=("wrong_json", "403", "409", "412"),
        gone=("404",),
    ),
    "guarded": _kind(
        looked=(*LOST, "wrong_json", "500"),
        retried=(*THROTTLED, *BUSY),
        token=("401",),
        refused=("403",),
        gone=("404",),
        stale=("409", "412"),
    ),
    "create": _kind(
        looked=(*LOST, "wrong_json", "500", *BUSY),
        retried=THROTTLED,
        token=("401",),
        refused=("403",),
        gone=("404",),
        stale=("409", "412"),
    ),
    "keyed": _kind(
        retried_looked=(*LOST, "500"),
        retried=(*THROTTLED, *BUSY),
        looked=("wrong_json",),
        token=("401",),
        refused=("403", "409"),
        gone=("404",),
        stale=("412",),
    ),
}
WORDS: Mapping[str, str] = {
    "sign-in": "Sign-ins",
    "question": "Questions about a system as a whole: lists, queries, what the fields are",
    "record": "Questions about one record",
    "guarded": "Writes that carry the version they were planned on, or a key",
    "create": "Writes without such a guard",
    "keyed": "Writes that may be sent twice: removals",
}


def expected(endpoint: Endpoint, fault: Fault) -> Outcome:
    return OUTCOMES[endpoint.but.get(fault.name) or KINDS[endpoint.kind][fault.name]]


def page() -> str:
    """``docs/faults.md``."""
    names = {"partner_center": "Partner Center", "salesforce": "Salesforce", "dynamics": "Dynamics 365"}
    lines = [INTRODUCTION]
    for kind, outcomes in KINDS.items():
        lines += [f"## {WORDS[kind]}", ""]
        for system, label in names.items():
            if used := [each.name for each in ENDPOINTS if (each.kind, each.system) == (kind, system)]:
                lines.append(f"- {label}: {', '.join(used)}")
        lines += ["", "| what goes wrong | what becomes of it |", "|---|---|"]
        lines += [f"| {faults} | {outcome} |" for outcome, faults in _rows(outcomes)]
        places: dict[str, list[str]] = {}
        for endpoint in ENDPOINTS:
            if endpoint.kind == kind:
                for outcome, faults in _rows(endpoint.but):
                    row = f"{faults} | {outcome} |"
                    places.setdefault(row, []).append(f"{names[endpoint.system]}, {endpoint.name}")
        lines += [f"| *{'; '.join(where)}:* {row}" for row, where in places.items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _rows(outcomes: Mapping[str, str]) -> list[tuple[str, str]]:
    """Outcome and the faults that have it, in the order of the faults."""
    found: dict[str, list[str]] = {}
    for fault in FAULTS:
        if fault.name in outcomes:
            found.setdefault(OUTCOMES[outcomes[fault.name]].words, []).append(fault.words)
    return [(outcome, " · ".join(faults)) for outcome, faults in found.items()]


INTRODUCTION = """\
# What goes wrong on the wire, and what becomes of it

Every call to Partner Center, Salesforce and Dynamics 365, put to everything that can happen to it. `make faults` plays each cell
against served systems; this page is made from what it plays (`tests/wire/fault_table.py`), so neither can go stale.

In every cell: a redirect is never followed, and neither token nor secret reaches another host; `Retry-After`, in seconds
or as a date, is waited out by every call to that host, in the following cycles of the same process too; what an error says
about people or deals stays out of the logs; when the fault is gone, the next attempt works, and what was to be made exists
once. `Retry-After: 600` is longer than a call may take (two minutes), so the cycle ends and the host is left alone until
then. A stored refresh token is kept, whatever a sign-in is answered.

A redirect, a web page or a shape that is not the system's own means that something else answers there: a proxy, a captive
portal, a wrong address.
"""

if __name__ == "__main__":
    sys.stdout.write(page())
