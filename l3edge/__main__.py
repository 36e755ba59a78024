"""`python -m l3edge` is the command `l3edge`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
