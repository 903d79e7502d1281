"""Who is in the mesh: heartbeats, suspicion, death, return. The rules are in docs/spec/02-control-plane.md."""

__all__: list[str] = []
