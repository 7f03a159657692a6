"""What earlier tests left to the garbage collector."""

from __future__ import annotations

import gc
import warnings


def find_leftovers() -> None:
    """Find it now, without a word, so that a later collection finds what its own test left.

    Clients that LangChain shares keep connections longer than the event loops they were made in.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
