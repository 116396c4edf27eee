"""One cycle: read, check, decide, apply, record; ``cycle.py`` has the order."""
