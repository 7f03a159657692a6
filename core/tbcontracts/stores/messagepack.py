"""Reads MessagePack, as far as the scripts of the Redis store write it.

The server packs it in C; a library to read it would be one more that everybody has to install.
"""

from __future__ import annotations

import struct
from typing import Any

_FIXED = {
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: struct.Struct(">B"),
    0xCD: struct.Struct(">H"),
    0xCE: struct.Struct(">I"),
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_TEXT_SIZES = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAY_SIZES = {0xDC: 2, 0xDD: 4}
_EMPTY_MAP = 0x80  # Lua does not tell an empty table from an empty list


def unpack(data: bytes) -> Any:
    """Return the value that was packed; lists are lists, and text is text.

    Raises:
        ValueError: It is nothing that the scripts write.
    """
    return _read(data, 0)[0]


def _read(data: bytes, at: int) -> tuple[Any, int]:
    """Return the value that begins here, and where the next one does."""
    tag, at = data[at], at + 1
    if tag < _EMPTY_MAP:
        return tag, at
    if tag >= 0xE0:  # noqa: PLR2004 - the format's own numbers, here and below
        return tag - 0x100, at
    if 0xA0 <= tag <= 0xBF:  # noqa: PLR2004
        return _text(data, at, tag & 0x1F)
    if 0x90 <= tag <= 0x9F:  # noqa: PLR2004
        return _array(data, at, tag & 0x0F)
    if tag in _CONSTANTS:
        return _CONSTANTS[tag], at
    fixed = _FIXED.get(tag)
    if fixed is not None:
        return fixed.unpack_from(data, at)[0], at + fixed.size
    for sizes, read in ((_TEXT_SIZES, _text), (_ARRAY_SIZES, _array)):
        if tag in sizes:
            start = at + sizes[tag]
            return read(data, start, int.from_bytes(data[at:start], "big"))
    if tag == _EMPTY_MAP:
        return [], at
    msg = f"The ledger answered something unknown (a value of type {tag:#x})."
    raise ValueError(msg)


def _text(data: bytes, at: int, size: int) -> tuple[str, int]:
    return data[at : at + size].decode(), at + size


def _array(data: bytes, at: int, size: int) -> tuple[list[Any], int]:
    values: list[Any] = []
    for _ in range(size):
        value, at = _read(data, at)
        values.append(value)
    return values, at
