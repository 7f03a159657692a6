"""AWS's binary framing of streams: `application/vnd.amazon.eventstream`.

A message has the lengths of the whole and of its headers, a checksum of those, the headers, the
payload, and a checksum of everything; numbers are big-endian.
"""

from __future__ import annotations

import json
import struct
from binascii import crc32
from collections.abc import Mapping
from typing import Any

_STRING = 7
_AROUND = 16
"""The two lengths and the two checksums."""


def event(kind: str, payload: Mapping[str, Any]) -> bytes:
    """Return a message of a stream."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return _message(headers, payload)


def exception(kind: str, message: str) -> bytes:
    """Return the message that ends a stream with an error."""
    headers = {":exception-type": kind, ":content-type": "application/json"}
    return _message({**headers, ":message-type": "exception"}, {"message": message})


def _message(headers: Mapping[str, str], payload: Mapping[str, Any]) -> bytes:
    head = b"".join(_header(name, value) for name, value in headers.items())
    body = json.dumps(payload).encode()
    lengths = struct.pack(">II", _AROUND + len(head) + len(body), len(head))
    message = lengths + struct.pack(">I", crc32(lengths)) + head + body
    return message + struct.pack(">I", crc32(message))


def _header(name: str, value: str) -> bytes:
    told, said = name.encode(), value.encode()
    return struct.pack(">B", len(told)) + told + struct.pack(">BH", _STRING, len(said)) + said
