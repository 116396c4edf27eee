"""What an admin installs and checks in Salesforce: fields, rules, list views, panel, rights. No cycle imports it."""
