"""Membership of up to 10,000 nodes, as views that all go through alike. The rules: docs/spec/06-membership.md."""

__all__: list[str] = []
