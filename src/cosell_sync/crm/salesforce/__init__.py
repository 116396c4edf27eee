"""Salesforce behind the `Crm` port; `client.py` is the door, `records.py` translates and is pure."""
