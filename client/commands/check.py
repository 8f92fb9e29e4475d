"""stub"""
def check() -> None:
    """."""
