"""What the scripts in Redis pack is read back as it was."""

from __future__ import annotations

import pytest
import redis

from tbcontracts.stores.messagepack import unpack


def test_what_lua_packs_is_read(client: redis.Redis) -> None:
    """Every form that the scripts may write, at the edges where forms change."""
    numbers = [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**40, 2**53 - 1]
    script = """
    local numbers, texts, list = {}, {}, {}
    for _, number in ipairs(ARGV) do
      numbers[#numbers + 1] = tonumber(number)
      numbers[#numbers + 1] = -tonumber(number)
    end
    for _, size in ipairs({0, 31, 32, 255, 256, 70000}) do
      texts[#texts + 1] = string.rep('é', size)
    end
    for at = 1, 70000 do list[at] = at end
    return cmsgpack.pack({numbers, texts, list, {}, true, false, 0.1, 0.5, 1e300, {{}, {1}}})
    """
    packed = client.eval(script, 0, *map(str, numbers))
    assert unpack(packed) == [
        [signed for number in numbers for signed in (number, -number)],
        ["é" * size for size in (0, 31, 32, 255, 256, 70_000)],
        list(range(1, 70_001)),
        [],
        True,
        False,
        0.1,
        0.5,
        1e300,
        [[], [1]],
    ]
    assert unpack(b"\xc0") is None
    with pytest.raises(ValueError, match="unknown"):
        unpack(b"\xc1")
