"""Ways to find addresses at which nodes may answer. What is found is unproven: only introduction proves who is there.

All ways run at once and share one shape: ``start``, ``stop``, ``state``, and two callbacks, ``found`` for addresses to
dial and ``failed`` for a sentence to show the user. A way that fails says so and stops nothing.
"""
