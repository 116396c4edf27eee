"""The fake Salesforce: one org, its REST API, its setup, its sellers."""
