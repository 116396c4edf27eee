"""cosell-sync keeps Microsoft Partner Center referrals and CRM opportunities telling the same story."""
