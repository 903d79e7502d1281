"""The wire: frames as bytes, their limits, their versions. The specification is docs/spec/."""

__all__: list[str] = []
