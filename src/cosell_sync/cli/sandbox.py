def sandbox() -> None:
    """Placeholder while being written."""
