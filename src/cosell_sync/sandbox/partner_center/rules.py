"""What the referral service accepts: mandatory properties of a create, moves of a deal, changes of a patch.

Tables first, then one small function over each. Every function returns its problems as `(target, sentence)` pairs and changes
nothing. Where the documentation is silent the stricter reading applies; `Switches` names each such reading, so that a test
can choose the other one.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cosell_sync.sandbox.partner_center.schema import HELP, Document
from cosell_sync.sandbox.partner_center.shapes import CREATE_SHAPES, SHAPES, VISIBLE

Problem = tuple[str, str]

# status and substatus that fit together, and the moves a partner may make
FITTING: Mapping[str, tuple[str, ...]] = {
    "New": ("Pending", "Received"),
    "Active": ("Accepted",),
    "Closed": ("Won", "Lost", "Declined", "Expired"),
}
MOVES: Mapping[tuple[str, str], frozenset[tuple[str, str]]] = {
    ("New", "Pending"): frozenset({("New", "Received"), ("Active", "Accepted"), ("Closed", "Declined")}),
    ("New", "Received"): frozenset({("Active", "Accepted"), ("Closed", "Declined")}),
    ("Active", "Accepted"): frozenset({("Closed", "Won"), ("Closed", "Lost")}),
}
PERCENT_STAGES = frozenset({"0", "10", "20", "40", "60", "80", "100"})
NAMED_STAGES = frozenset({"Qualify", "Develop", "Propose", "Close"})
STAGE_NAMES: Mapping[str, str] = {"20": "Qualify", "40": "Develop", "60": "Propose", "80": "Close"}
TARGET_TYPES = ("None", "BusinessProfileLocation", "SolutionProfile")


@dataclass
class Switches:
    """The readings of Microsoft's documentation that a test can reverse."""

    strictness: Literal["full", "contract"] = "full"  # all mandatory fields, or only those of the contract
    # PATCH /name, PATCH /favorite: taken, refused, or answered with success and left as it was. Neither is in the connector's
    # list of what may be patched, and no page says what becomes of it.
    accept_name: bool | Literal["ignored"] = False
    accept_favorite: bool | Literal["ignored"] = False
    one_post: bool = False  # one POST with a help code invites Microsoft
    always_204: bool = False  # PATCH ignores Prefer: return=representation
    type_follows: bool = True  # our side becomes Shared once Microsoft is invited
    # Customer contacts are fixed once Microsoft is invited: on our own deals (the words of the bulk file), on every
    # shared deal, or never.
    freeze_contacts: Literal["own", "shared", "never"] = "own"
    allow_empty_sets: bool = False  # PATCH may empty the team or the solutions
    # In which form a sales stage is taken, what becomes of another one, and in which form it is shown: as stored, or always so.
    sales_stage: Literal["any", "percent", "name"] = "any"
    other_sales_stage: Literal["refused", "ignored"] = "refused"
    shown_sales_stage: Literal["stored", "percent", "name"] = "stored"
    date_filter: Literal["unquoted", "quoted", "refused"] = "unquoted"
    paging: Literal["position", "keyset"] = "position"
    # MFA, enforced on calls of a user since 8 June 2026 (announced on learn.microsoft.com/partner-center/developer/
    # referral-api-authentication, too); that the referrals answer exactly so is likely, not proven.
    demand_mfa: bool = True
    referrals_role: bool = True  # whether the user is a Referrals admin or user; else 403
    # Locations (mpnId) of the role: other referrals are out of sight. None: all
    # (learn.microsoft.com/partner-center/permissions-overview).
    locations: list[str] | None = None
    page_size: int = 100
    create_status: int = 200
    # A close date before today: reported by partners as refused; no page says from when on a date is past.
    past_dates: Literal["refused", "taken"] = "refused"
    # Ids of solutions that were archived or never belonged to the partner: a change that names one is refused.
    archived: tuple[str, ...] = ()
    # Whether a refusal names its property as `target`; the page on error codes shows the member and does not promise it.
    names_target: bool = True
    stale_status: int = 412
    stale_code: str = "preconditionFailed"


PATCHABLE = frozenset(SHAPES) - {"name", "favorite"}
APPENDABLE = frozenset({"customerProfile/team", "details/requirements/solutions", "team"})

MANDATORY = ("type", "customerProfile", "consent", "details")
MANDATORY_FULL = (
    "name",
    "customerProfile/name",
    "customerProfile/address/addressLine1",
    "customerProfile/address/city",
    "customerProfile/address/country",
    "details/dealValue",
    "details/currency",
    "details/closingDateTime",
)


def at(document: Any, path: str) -> Any:
    """The value at a path, None where there is none."""
    for step in path.split("/"):
        document = document.get(step) if isinstance(document, dict) else None
    return document


def present(document: Any, path: str) -> bool:
    """Whether the document has a property at a path, null included."""
    *parents, last = path.split("/")
    holder = at(document, "/".join(parents)) if parents else document
    return isinstance(holder, dict) and last in holder


def complete(person: Any) -> bool:
    """Whether a person has first and last name, e-mail and phone."""
    return isinstance(person, dict) and all(
        person.get(name) for name in ("firstName", "lastName", "email", "phoneNumber")
    )


# -- creating --------------------------------------------------------------------------------------------------------


def check_create(body: Document, switches: Switches) -> list[Problem]:
    """All problems of a posted referral."""
    problems: list[Problem] = [(name, "is required") for name in MANDATORY if not body.get(name)]
    problems += [
        (name, "must be an object")
        for name in ("customerProfile", "consent", "details", "inviteContext")
        if body.get(name) is not None and not isinstance(body[name], dict)
    ]
    for path, check in CREATE_SHAPES.items():
        value = at(body, path)
        if value is not None and (wrong := check(value)):
            problems.append((path, wrong))
    problems += _wrong_stage(at(body, "salesStage"), switches) + _check_target(body)
    code = at(body, "inviteContext/assistanceRequestCode")
    if code is not None and code not in {"Unknown", *HELP}:
        problems.append(("inviteContext/assistanceRequestCode", "is no kind of help"))
    if switches.strictness == "full":
        problems += _missing_in_create(body)
    return problems


def _missing_in_create(body: Document) -> list[Problem]:
    problems: list[Problem] = [
        (path, "is required") for path in MANDATORY_FULL if at(body, path) in (None, "")
    ]
    if not at(body, "details/requirements/solutions"):
        problems.append(("details/requirements/solutions", "needs one to fifty solutions"))
    team = at(body, "team")
    if not isinstance(team, list) or not any(map(complete, team)):
        problems.append(("team", "needs a member with first and last name, phone and e-mail"))
    problems += [
        (f"consent/{flag}", "must be true")
        for flag in ("consentToToShareInfoWithOthers", "consentToContact")
        if at(body, f"consent/{flag}") is not True
    ]
    attributes = at(body, "details/requirements/additionalRequirements/attributes")
    if not isinstance(attributes, list) or not any(
        isinstance(one, dict) and one.get("type") == "CustomerMarketplaceIntent" and one.get("id")
        for one in attributes
    ):
        problems.append(
            ("details/requirements/additionalRequirements/attributes", "needs the CustomerMarketplaceIntent")
        )
    return problems


def _check_target(body: Document) -> list[Problem]:
    target = body.get("target")
    if target is None:
        return []
    if not isinstance(target, list) or not all(
        isinstance(one, dict) and one.get("type") in TARGET_TYPES and isinstance(one.get("id"), str)
        for one in target
    ):
        return [("target", "must be an array of type and id")]
    return []


def invites_microsoft(body: Document) -> bool:
    """Whether the targets of a post name Microsoft."""
    target = body.get("target")
    return isinstance(target, list) and {"type": "BusinessProfileLocation", "id": "msft"} in target


def check_invitation(body: Document, ours: Document, switches: Switches) -> list[Problem]:
    """The further problems of a post that joins an engagement."""
    problems: list[Problem] = []
    if not invites_microsoft(body):
        problems.append(("target", "must name msft"))
    if body.get("type") != "Shared":
        problems.append(("type", "must be Shared"))
    if at(body, "inviteContext/assistanceRequestCode") not in HELP:
        problems.append(("inviteContext/assistanceRequestCode", "must name the kind of help"))
    if switches.strictness == "full":
        contacts = at(body, "customerProfile/team")
        if not isinstance(contacts, list) or not any(map(complete, contacts)):
            problems.append(
                ("customerProfile/team", "needs a contact with first and last name, phone and e-mail")
            )
        if at(ours, f"consent/{VISIBLE}") is not True:
            problems.append((f"consent/{VISIBLE}", "must be true before Microsoft is invited"))
    return problems


# -- patching --------------------------------------------------------------------------------------------------------


def check_operations(operations: Any, switches: Switches) -> list[Problem]:
    """Whether a body is a JSON Patch of the kind the service takes."""
    if not isinstance(operations, list) or not operations:
        return [("body", "must be a non-empty array of operations")]
    allowed = PATCHABLE | ({"name"} if switches.accept_name else set())
    allowed |= {"favorite"} if switches.accept_favorite else set()
    problems: list[Problem] = []
    for operation in operations:
        if not isinstance(operation, dict) or set(operation) != {"op", "path", "value"}:
            problems.append(("body", "an operation is made of op, path and value"))
            continue
        op, path, value = operation["op"], operation["path"], operation["value"]
        if op not in {"replace", "add"}:
            problems.append(("op", f"the operation {op} is not supported"))
            continue
        if not isinstance(path, str) or not path.startswith("/"):
            problems.append(("path", f"{path!r} is no path"))
            continue
        field, append = (path[1:-2], True) if path.endswith("/-") else (path[1:], False)
        if field not in allowed or (append and field not in APPENDABLE):
            problems.append((path, "cannot be changed"))
        elif append and op != "add":
            problems.append((path, "only add can append"))
        elif wrong := SHAPES[field]([value] if append else value):
            problems.append((path, wrong))
    return problems


def patched(document: Document, operations: list[Document]) -> Document:
    """The document after the operations; they have been checked before."""
    result = copy.deepcopy(document)
    for operation in operations:
        *parents, last = operation["path"][1:].split("/")
        holder = result
        for step in parents if last != "-" else parents[:-1]:
            holder[step] = holder.get(step) or {}
            holder = holder[step]
        if last == "-":
            holder[parents[-1]] = [*(holder.get(parents[-1]) or []), copy.deepcopy(operation["value"])]
        else:
            holder[last] = copy.deepcopy(operation["value"])
    return result


def check_change(
    old: Document, new: Document, *, invited: bool, switches: Switches, today: str
) -> list[Problem]:
    """The problems of a partner's change from one document to the other. ``today``: as ``YYYY-MM-DD``, in UTC."""
    problems = _check_move(old, new, switches) + _check_values(old, new, switches, today)
    if at(old, f"consent/{VISIBLE}") is True and at(new, f"consent/{VISIBLE}") is not True:
        problems.append((f"consent/{VISIBLE}", "cannot be withdrawn"))
    if new["salesStage"] != old["salesStage"]:
        problems += _wrong_stage(new["salesStage"], switches)
    if switches.accept_name and not new["name"]:
        problems.append(("name", "is required"))
    if not switches.allow_empty_sets:
        for path in ("team", "details/requirements/solutions"):
            if at(old, path) and not at(new, path):
                problems.append((path, "must not become empty"))
    problems += [
        (path, "must not have more than 50 entries")
        for path in sorted(APPENDABLE)
        if len(at(new, path) or []) > 50
    ]
    frozen = {"own": old["direction"] == "Outgoing", "shared": True, "never": False}[switches.freeze_contacts]
    if invited and frozen:
        problems += _check_contacts(
            at(old, "customerProfile/team") or [], at(new, "customerProfile/team") or []
        )
    return problems


def _check_values(old: Document, new: Document, switches: Switches, today: str) -> list[Problem]:
    problems: list[Problem] = []
    closing, solutions = "details/closingDateTime", "details/requirements/solutions"
    if switches.past_dates == "refused" and at(new, closing) != at(old, closing) and at(new, closing):
        problems += [(closing, "must not be in the past")] if at(new, closing)[:10] < today else []
    if at(new, solutions) != at(old, solutions):
        gone = [one["id"] for one in at(new, solutions) or [] if one["id"] in switches.archived]
        problems += [(solutions, f"the solution {each} is not active") for each in gone]
    return problems


def _check_move(old: Document, new: Document, switches: Switches) -> list[Problem]:
    before, after = (old["status"], old["substatus"]), (new["status"], new["substatus"])
    if after[1] not in FITTING.get(after[0], ()):
        return [("substatus", f"{after[1]} does not fit {after[0]}")]
    if before == after:
        return []
    if after not in MOVES.get(before, frozenset()):
        return [("status", f"{'/'.join(before)} cannot become {'/'.join(after)}")]
    if switches.strictness != "full":
        return []
    problems: list[Problem] = []
    if after[1] in {"Accepted", "Won"}:
        problems += [
            (path, "is required for this status")
            for path in ("details/dealValue", "details/closingDateTime")
            if at(new, path) is None
        ]
    if after[1] in {"Lost", "Declined"} and not (new["statusReason"] or "").strip():
        problems.append(("statusReason", "is required for this status"))
    return problems


def _check_contacts(old: list[Document], new: list[Document]) -> list[Problem]:
    """Filled fields of a contact are fixed; empty ones may be filled, and contacts may be added."""
    fixed = ("firstName", "lastName", "email", "phoneNumber")
    for person in old:
        filled = {name: person.get(name) for name in fixed if person.get(name)}
        if not any(all(other.get(name) == value for name, value in filled.items()) for other in new):
            return [("customerProfile/team", "contacts are fixed once Microsoft is invited")]
    return []


def _wrong_stage(value: Any, switches: Switches) -> list[Problem]:
    known = PERCENT_STAGES | NAMED_STAGES if switches.other_sales_stage == "ignored" else _stages(switches)
    return [] if value is None or value in known else [("salesStage", f"{value!r} is no stage")]


def _stages(switches: Switches) -> frozenset[str]:
    forms = {"percent": PERCENT_STAGES, "name": NAMED_STAGES}
    return forms.get(switches.sales_stage, PERCENT_STAGES | NAMED_STAGES)


def as_kept(old: Document, sent: Document, switches: Switches) -> Document:
    """What is kept of a document that is sent: properties that are ignored stay as they were."""
    ignored = [name for name in ("name", "favorite") if getattr(switches, f"accept_{name}") == "ignored"]
    if switches.other_sales_stage == "ignored" and sent["salesStage"] not in {None, *_stages(switches)}:
        ignored.append("salesStage")
    return {**sent, **{name: old[name] for name in ignored}}


def as_shown(document: Document, switches: Switches) -> Document:
    """The document as it is answered, its sales stage in the form that the switch names."""
    forms = {
        "percent": {name: percent for percent, name in STAGE_NAMES.items()},
        "name": STAGE_NAMES,
    }
    shown = forms.get(switches.shown_sales_stage, {}).get(document["salesStage"])
    return {**document, "salesStage": shown} if shown else document
