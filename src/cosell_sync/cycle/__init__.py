"""One cycle: pull, decide, apply, remember; ``run.py`` tells how."""
