"""Dynamics 365 Sales behind the ``Crm`` port, over the Dataverse Web API."""
