"""The import alone, by dlt: its REST source reads the referrals, a custom destination writes accounts, opportunities, solutions.

Run by ``peer.py`` in an environment of its own; it knows nothing of our product. What it leaves out: people, look-alikes,
intents, bases, the journal, the message on the record, limits of the columns, any second run. It prints seconds and CPU seconds, its start
not counted, and how many opportunities it made.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import dlt
import requests
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator
from dlt.sources.rest_api import rest_api_resources

PARTNER_CENTER = os.environ["COSELL_PARTNER_CENTER__BASE_URL"]
SALESFORCE = os.environ["COSELL_SALESFORCE__LOGIN_URL"]
TRUST = os.environ["SSL_CERT_FILE"]
API = f"{SALESFORCE}/services/data/v62.0/composite/sobjects"
OPEN = {"New": "Prospecting", "Active": "Qualification"}


class Links(JSONLinkPaginator):
    """Of the next link only the query is right: its host and path are documented wrongly."""

    def update_request(self, request: Any) -> None:
        if self._next_reference:
            base = f"{PARTNER_CENTER}/v1.0/engagements/referrals"
            request.url, request.params = f"{base}?{self._next_reference.partition('?')[2]}", {}


def partner_center_token() -> str:
    tenant = os.environ["COSELL_PARTNER_CENTER__TENANT_ID"]
    form = {
        "client_id": os.environ["COSELL_PARTNER_CENTER__CLIENT_ID"],
        "grant_type": "refresh_token",
        "refresh_token": os.environ["COSELL_PARTNER_CENTER__REFRESH_TOKEN"],
        "scope": "https://api.partner.microsoft.com/.default offline_access",
    }
    url = f"{os.environ['COSELL_PARTNER_CENTER__AUTHORITY']}/{tenant}/oauth2/v2.0/token"
    return str(requests.post(url, form, verify=TRUST, timeout=60).json()["access_token"])


def salesforce() -> requests.Session:
    session = requests.Session()
    session.verify = TRUST
    key, secret = (os.environ[f"COSELL_SALESFORCE__CONSUMER_{name}"] for name in ("KEY", "SECRET"))
    form = {"grant_type": "client_credentials", "client_id": key, "client_secret": secret}
    granted = session.post(f"{SALESFORCE}/services/oauth2/token", form, auth=(key, secret)).json()
    session.headers["Authorization"] = f"Bearer {granted['access_token']}"
    return session


SESSION = salesforce()
accounts: dict[str, str | None] = {}  # by the customer's name
made = 0


def sent(method: str, path: str, records: list[dict[str, Any]]) -> list[str | None]:
    """The ids of the rows that were taken, in their order."""
    ids: list[str | None] = []
    for start in range(0, len(records), 200):
        body = {"allOrNone": False, "records": records[start : start + 200]}
        answer = SESSION.request(method, f"{API}{path}", json=body)
        answer.raise_for_status()
        ids += [each["id"] if each["success"] else None for each in answer.json()]
    return ids


@dlt.destination(batch_size=200, name="salesforce", skip_dlt_columns_and_tables=True, max_table_nesting=0)
def opportunities(items: list[dict[str, Any]], _table: Any) -> None:
    """Two hundred referrals as accounts, opportunities under the referral id, and solutions."""
    global made  # noqa: PLW0603 - what is printed at the end
    wanted = [account(each.get("customerProfile") or {}) for each in items]
    new = {each["Name"]: each for each in wanted if each["Name"] not in accounts}
    accounts.update(zip(new, sent("POST", "", list(new.values())), strict=True))
    deals = [opportunity(each, accounts[own["Name"]]) for each, own in zip(items, wanted, strict=True)]
    ids = sent("PATCH", "/Opportunity/Cosell_Referral_Id__c", deals)
    made += sum(each is not None for each in ids)
    solutions = [row for each, deal in zip(items, ids, strict=True) if deal for row in solved(each, deal)]
    sent("POST", "", solutions)


def account(customer: dict[str, Any]) -> dict[str, Any]:
    address = customer.get("address") or {}
    return {
        "attributes": {"type": "Account"},
        "Name": customer.get("name") or "Unknown",
        "BillingStreet": address.get("addressLine1"),
        "BillingCity": address.get("city"),
        "BillingPostalCode": address.get("postalCode"),
    }


def opportunity(referral: dict[str, Any], owner: str | None) -> dict[str, Any]:
    details = referral.get("details") or {}
    return {
        "attributes": {"type": "Opportunity"},
        "Cosell_Referral_Id__c": referral["id"],
        "Name": (referral.get("name") or "Unknown")[:120],
        "StageName": OPEN[referral["status"]],
        "CloseDate": str(details.get("closingDateTime") or "2027-01-01")[:10],
        "Amount": details.get("dealValue"),
        "AccountId": owner,
        "Cosell_Notes__c": details.get("notes"),
        "Cosell_Sync__c": True,
    }


def solved(referral: dict[str, Any], deal: str) -> Iterator[dict[str, Any]]:
    for each in (referral.get("details") or {}).get("requirements", {}).get("solutions") or ():
        row = {"Opportunity__c": deal, "Solution_Id__c": each.get("id"), "Solution_Name__c": each.get("name")}
        yield {"attributes": {"type": "Cosell_Solution__c"}, **row}


def main() -> None:
    began, cpu = time.monotonic(), time.process_time()
    (referrals,) = rest_api_resources(
        {
            "client": {
                "base_url": f"{PARTNER_CENTER}/v1.0/engagements/",
                "headers": {"client-request-id": str(uuid4())},
                "auth": BearerTokenAuth(partner_center_token()),
                "paginator": Links(next_url_path="'@odata.nextLink'"),
            },
            "resources": [
                {
                    "name": "referrals",
                    "max_table_nesting": 0,
                    "endpoint": {
                        "path": "referrals",
                        "params": {"$orderby": "createdDateTime asc"},
                        "data_selector": "value",
                    },
                }
            ],
        }
    )
    with tempfile.TemporaryDirectory(prefix="dlt-") as home:
        pipeline = dlt.pipeline("peer", destination=opportunities, pipelines_dir=home)
        pipeline.run(referrals.add_filter(lambda row: row["status"] in OPEN))
    print(time.monotonic() - began, time.process_time() - cpu, made)


if __name__ == "__main__":
    main()
