"""Tells people in Teams, Slack or by plain JSON what a cycle found: composed, kept in an outbox, and sent from there."""
