"""The command `tbc`: contract files checked, books shown, explained and topped up."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run `tbc` with the arguments of this process, and exit.

    Exit codes: 0 good, 1 something was found, 2 it was used wrongly or could not be done.
    """
    try:
        from tbcontracts.cli.group import tbc
    except ImportError as error:
        if error.name != "click":
            raise
        sys.exit(
            "The command tbc needs click, which is not installed. What helps: pip install "
            '"tbcontracts[cli]" (from a checkout: pip install ".[cli]").'
        )
    tbc.main()
    raise AssertionError  # click exits
