"""The fake Partner Center: Microsoft's referral service and the people who work in its portal."""
