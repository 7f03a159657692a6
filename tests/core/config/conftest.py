"""What is said of a contract file that is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tbcontracts.config import load
from tbcontracts.errors import ConfigurationError


def wrong(source: Any) -> str:
    """Return what is said of a source that is refused."""
    with pytest.raises(ConfigurationError) as refused:
        load(source)
    return str(refused.value)
