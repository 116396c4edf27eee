"""One cycle: pull, decide, apply, remember; ``cycle.py`` tells how."""
