"""What is installed of what tbcontracts can use, and whether its version is supported."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[^]]*\])?\s*(?P<range>[^;]*)(;\s*(?P<marker>.*))?$")
_EXTRA = re.compile(r"""extra == ['"](?P<extra>[\w-]+)['"]""")
_PYTHON = re.compile(r"""python_version (?P<sign><=|>=|<|>|==) ['"](?P<version>[\d.]+)['"]""")
_BOUND = re.compile(r"\s*(?P<sign><=|>=|<|>|==|!=|~=)\s*(?P<version>[\w.!+*-]+)\s*")

VersionOf = Callable[[str], "str | None"]


class Package(NamedTuple):
    """A package that an extra needs."""

    extra: str
    name: str
    supported: str
    """The range, such as ">=1.1.5,<2"; empty for any."""
    version: str | None
    """What is installed; None for nothing."""

    @property
    def state(self) -> str:
        """Whether it is there: "ok", "missing" or "unsupported"."""
        if self.version is None:
            return "missing"
        return "ok" if is_within(self.version, self.supported) else "unsupported"


def version_of(name: str) -> str | None:
    """Return the version of an installed package; None if there is none."""
    from importlib import metadata  # slow to import

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def packages(version: VersionOf = version_of) -> list[Package]:
    """Return what each extra needs, as the metadata of this installation say."""
    from importlib import metadata  # slow to import

    return list(_packages(metadata.requires("tbcontracts") or (), version))


def _packages(requirements: Iterable[str], version: VersionOf) -> Iterator[Package]:
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        marker = (found and found["marker"]) or ""
        extra = _EXTRA.search(marker)
        if found is None or extra is None or extra["extra"] == "all":
            continue
        if found["name"] == "tbcontracts":  # an extra that needs another one
            continue
        python = _PYTHON.search(marker)
        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if python and not is_within(here, f"{python['sign']}{python['version']}"):
            continue
        bounds = sorted(found["range"].strip("() ").split(","), reverse=True)
        supported = ",".join(bound.strip() for bound in bounds)
        yield Package(extra["extra"], found["name"], supported, version(found["name"]))


def is_within(version: str, supported: str) -> bool:
    """Return whether a version is in a range, by its numbers."""
    mine = _numbers(version)
    for bound in filter(None, supported.split(",")):
        found = _BOUND.match(bound)
        if found is None:
            continue
        other = _numbers(found["version"])
        fits = {
            "<": mine < other,
            "<=": mine <= other,
            ">": mine > other,
            ">=": mine >= other,
            "==": mine[: len(other)] == other,
            "!=": mine[: len(other)] != other,
            "~=": mine >= other and mine[: len(other) - 1] == other[:-1],
        }
        if not fits[found["sign"]]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, without zeros at its end: 1.2.0 is 1.2."""
    numbers = [int(part) for part in re.findall(r"\d+", re.match(r"[\d.]*", version)[0])]  # type: ignore[index]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
