"""Microsoft Partner Center's referrals: the port over HTTP, the translation, the sign-in."""
