def demo() -> None:
    """Placeholder while being written."""
