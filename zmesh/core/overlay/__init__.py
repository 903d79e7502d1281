"""Membership of up to 10,000 nodes: who lives, as views that few agree for all. docs/spec/06-membership.md has the rules."""

__all__: list[str] = []
