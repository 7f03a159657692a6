"""Telemetry: OpenTelemetry as one listener. Its library is loaded when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tbcontracts.checks import shown
from tbcontracts.errors import ConfigurationError
from tbcontracts.telemetry.otel import OpenTelemetry

if TYPE_CHECKING:
    from tbcontracts.listeners import Listener

__all__ = ["OpenTelemetry", "listener_for"]

_by_word: dict[str, OpenTelemetry] = {}


def listener_for(telemetry: object, manager: Any) -> Listener:
    """Return the listener that a manager's `telemetry=` asks for.

    Args:
        telemetry: "otel", an `OpenTelemetry`, or a listener as it is.
        manager: Whose entries it will hear.

    Raises:
        ConfigurationError: There is no telemetry of that name.
        ImportError: The package for it is not installed.
    """
    if isinstance(telemetry, str):
        if telemetry != "otel":
            msg = f'telemetry must be "otel" or a listener, not {telemetry!r}.'
            raise ConfigurationError(msg, remedy='What helps: telemetry="otel".')
        # One for all managers: each name is one instrument, however many there are.
        telemetry = _by_word.get(telemetry) or _by_word.setdefault(telemetry, OpenTelemetry())
    if isinstance(telemetry, OpenTelemetry):
        return telemetry.listen_to(manager)
    if not callable(telemetry):
        msg = (
            f'telemetry must be "otel" or a listener, not {shown(telemetry)}: a listener must be a '
            "function of the scope and the journal entry."
        )
        raise ConfigurationError(msg, remedy='What helps: telemetry="otel".')
    return cast("Listener", telemetry)
