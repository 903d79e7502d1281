"""``python -m zmesh.testing``."""

import sys

from zmesh.testing.commands import main

if __name__ == "__main__":  # a spawned worker of a soak imports this module too
    sys.exit(main())
