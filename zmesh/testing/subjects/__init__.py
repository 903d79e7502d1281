"""What is under test: zmesh's own protocols as the simulator hosts them, each with its checkers."""

__all__: list[str] = []
