"""The columns of Sales' own accounts and contacts: which are read, what they hold, and what a seller calls them; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cosell_sync.core.texts import Text

# https://learn.microsoft.com/power-apps/developer/data-platform/reference/entities/account
LENGTHS: Final[Mapping[str, int]] = {
    "name": 160,
    "address1_line1": 250,
    "address1_line2": 250,
    "address1_city": 80,
    "address1_stateorprovince": 50,
    "address1_postalcode": 20,
    "address1_country": 80,
    "firstname": 50,
    "lastname": 50,
    "telephone1": 50,
    "emailaddress1": 100,  # of a contact
}
_CONTACT: Final = {
    "email": "emailaddress1",
    "first_name": "firstname",
    "last_name": "lastname",
    "phone": "telephone1",
}
# Parts of the customer, beside the name → columns of account.
ADDRESS: Final[Mapping[str, str]] = {
    "address_line1": "address1_line1",
    "address_line2": "address1_line2",
    "city": "address1_city",
    "state": "address1_stateorprovince",
    "postal_code": "address1_postalcode",
    "country": "address1_country",
}
# Columns of account that are read, beside the id.
ACCOUNT: Final = (
    "name",
    "address1_line1",
    "address1_line2",
    "address1_line3",
    "address1_city",
    "address1_stateorprovince",
    "address1_postalcode",
    "address1_country",
)
CUSTOMER_LENGTHS: Final[Mapping[str, int]] = {
    f"customer.{part}": LENGTHS[column] for part, column in {"name": "name", **ADDRESS}.items()
}
CONTACT_LENGTHS: Final[Mapping[str, int]] = {
    f"contacts.{part}": LENGTHS[column] for part, column in _CONTACT.items()
}
LABELS: Final[Mapping[str, str]] = {
    "customer": Text("Account"),
    "team": Text("Sales Team (connections)"),
    "contacts": Text("Contacts (connections)"),
    "solutions": Text("Co-sell Solutions"),
    "customer.name": Text("Account Name"),
    "customer.address_line1": Text("Address 1: Street 1"),
    "customer.address_line2": Text("Address 1: Street 2"),
    "customer.city": Text("Address 1: City"),
    "customer.state": Text("Address 1: State/Province"),
    "customer.postal_code": Text("Address 1: ZIP/Postal Code"),
    "customer.country": Text("Address 1: Country/Region"),
    "customer.duns": Text("D-U-N-S number"),
}
