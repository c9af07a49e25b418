"""``streams demo``."""

HELP = "x"


def demo() -> None:
    """Stub."""
