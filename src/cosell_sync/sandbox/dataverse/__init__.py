"""The fake Dataverse: one Dynamics 365 Sales environment, its Web API, its setup, its sellers."""
