"""cosell-sync keeps Microsoft Partner Center referrals and CRM opportunities equal."""
