"""Every test of the whole suite is listened to: see ``leaks``."""

from __future__ import annotations

from leaks import _listening, _nothing_leaks

__all__ = ["_listening", "_nothing_leaks"]
