"""What an imported solution of ours adds to the schema of an environment: columns, the table of solutions, alternate keys."""

from cosell_sync.sandbox.dataverse.schema import Column, Key, active, choice, flag, lookup, memo, stamps, text
from cosell_sync.sandbox.picklists import CLOSED_REASONS, HELP_KINDS

COSELL_COLUMNS = (
    flag("cosell_sync", "Co-sell sync"),
    text("cosell_referralid", "Co-sell referral ID", 64),
    text("cosell_referrallink", "Co-sell referral link", 500, format="Url"),
    choice("cosell_status", "Co-sell status", ("Received", "Accepted", "Won", "Lost", "Declined", "Expired")),
    choice("cosell_direction", "Co-sell direction", ("Inbound", "Outbound")),
    choice("cosell_dealtype", "Co-sell deal type", ("Private", "Partner-led", "Co-sell", "Lead")),
    choice("cosell_action", "Co-sell action", ("Accept", "Decline")),
    choice("cosell_reason", "Co-sell reason", CLOSED_REASONS),
    memo("cosell_reasonnote", "Co-sell reason note", 32_000),
    flag("cosell_visibletomicrosoft", "Visible to Microsoft"),
    choice("cosell_help", "Help from Microsoft", HELP_KINDS),
    memo("cosell_helpnote", "Note to Microsoft", 32_000),
    flag("cosell_consent", "Customer consent"),
    text("cosell_campaignid", "Co-sell campaign ID", 255),
    choice("cosell_marketplaceintent", "Marketplace intent", ("Have not decided", "Yes", "No")),
    text("cosell_partnerrole", "Partner role", 255),
    text("cosell_solutionarea", "Solution area", 255),
    text("cosell_solutionplay", "Solution play", 255),
    text("cosell_location", "Partner location", 255),
    memo("cosell_notes", "Co-sell notes", 32_000),
    flag("cosell_favorite", "Co-sell favorite"),
    Column("cosell_respondby", "Co-sell respond by", "datetime"),
    text("cosell_microsoftstatus", "Microsoft status", 255),
    text("cosell_microsoftid", "Microsoft ID", 255),
    choice("cosell_syncstate", "Co-sell sync state", ("In sync", "Waiting", "Needs attention", "Conflict", "Closed")),
    memo("cosell_message", "Co-sell message", 32_000),
    Column("cosell_lastsync", "Co-sell last sync", "datetime"),
)  # fmt: skip

COSELL_ACCOUNT = (text("cosell_duns", "D-U-N-S number", 40),)

# What an environment lacks that was set up before these were asked for.
NEWER = frozenset(
    {
        "cosell_marketplaceintent", "cosell_partnerrole", "cosell_solutionarea", "cosell_solutionplay", "cosell_location",
        "cosell_duns",
    }
)  # fmt: skip

REFERRAL_KEY = Key("cosell_referralkey", "cosell_ReferralKey", ("cosell_referralid",))

SOLUTION_KEY = Key("cosell_solutionkey", "cosell_SolutionKey", ("cosell_key",))


def solution() -> list[Column]:
    return [
        text("cosell_name", "Name", 255, required="ApplicationRequired"),
        lookup("cosell_opportunity", "Opportunity", "opportunity", required="ApplicationRequired", on_delete="cascade", child_name="cosell_opportunity_cosell_solution"),
        text("cosell_solutioncode", "Solution ID", 255),
        text("cosell_solutionname", "Solution name", 255),
        choice("cosell_solutiontype", "Solution type", ("Own", "Microsoft", "Third party")),
        text("cosell_key", "Co-sell key", 255),
        *active(), *stamps(),
    ]  # fmt: skip
