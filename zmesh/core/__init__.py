"""Protocol cores without input or output: no sockets, no clock, no randomness of their own.

Every machine has one shape: inputs (``receive``, ``handle_timeout`` and named events) take the time as an argument
and return
an ordered list of effects; ``next_deadline`` says when to call again. Drivers live in ``zmesh.runtime``.
"""

__all__: list[str] = []
