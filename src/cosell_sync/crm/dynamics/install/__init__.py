"""What an admin installs and checks in Dataverse: columns, tables, keys, views, rights. No cycle imports it."""
