"""How two nodes that do not know each other's keys meet. The rules are in docs/spec/02-control-plane.md, section 3."""

__all__: list[str] = []
