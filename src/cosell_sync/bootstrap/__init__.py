"""Wiring, the only place that names every adapter: settings in, a wired program out; ``program.py`` has the whole.

An adapter is imported where it is chosen: its libraries are half of a command's start, and nobody uses both CRMs at once.
"""
