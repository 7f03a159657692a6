"""Power cuts, as far as a test can make them: what no finished fsync covers is gone.

Killing a process proves nothing of this kind: the kernel still has what was written, and brings it
to the disk. Here a small C library before the process records the length of each file at each
finished fsync. After the process was killed, the files are cut to those lengths. So tails that
were not synced are lost; what is not modelled are torn and reordered writes within a file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

_SOURCE = Path(__file__).with_name("powercut.c")


class PowerCut:
    """Records what is safe, and takes away the rest.

    Args:
        folder: Where the library and its record go; not among the files that are cut.
    """

    def __init__(self, folder: Path) -> None:
        self._record = folder / "synced"
        library = folder / "powercut.so"
        compiler = shutil.which("gcc") or shutil.which("cc")
        assert compiler is not None, "a C compiler is needed (Debian: apt-get install gcc)"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl"],
            check=True,
        )
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "POWERCUT_LOG": str(self._record),
        }
        """What the process that is cut off runs with."""

    def lengths(self) -> dict[int, int]:
        """Return how much of each file, by its inode, was safe at its last fsync."""
        if not self._record.exists():
            return {}
        pairs = (line.split() for line in self._record.read_text().splitlines())
        return {int(inode): int(length) for length, inode in pairs}

    def strike(self, files: Iterable[Path]) -> int:
        """Cut files to what is safe; call it when the process is dead.

        Returns:
            How many bytes were lost.
        """
        safe, lost = self.lengths(), 0
        for file in files:
            found = file.stat()
            length = found.st_size
            kept = min(length, safe.get(found.st_ino, 0))
            os.truncate(file, kept)
            lost += length - kept
        return lost
