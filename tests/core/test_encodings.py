"""Encodings are found on this machine or not at all: never fetched, never waited for."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tbcontracts import tokens
from tbcontracts.tokens import best_counter, estimate_tokens, tiktoken_counter

URL = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
FILE_NAME = hashlib.sha1(URL.encode()).hexdigest()


def encoding_file() -> Path:
    """Return the file of an encoding, which LiteLLM's package brings along."""
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder / "litellm_core_utils" / "tokenizers" / FILE_NAME


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every attempt to reach another machine fail the test."""

    def refuse(*args: object) -> NoReturn:
        raise AssertionError(f"somebody went to the network: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a temporary folder the only place where an encoding may lie."""
    monkeypatch.setattr(tokens, "_cache_folders", lambda: iter([str(tmp_path)]))
    return tmp_path


@pytest.fixture
def forgetful() -> Iterator[None]:
    """Have the best counter of this machine found anew, before and after."""
    tokens._find_counter.cache_clear()
    yield
    tokens._find_counter.cache_clear()


def test_a_cached_encoding_is_used(only_folder: Path) -> None:
    """A file in a cache is read, and counts as tiktoken counts."""
    shutil.copy(encoding_file(), only_folder)
    count = tiktoken_counter()
    assert count is not None
    assert count("hello world") == 2
    assert count("<|endoftext|>") > 1, "text that looks like a special token is text"


def test_without_a_file_there_is_no_counter(only_folder: Path) -> None:
    """An encoding that is not here is not fetched."""
    assert list(only_folder.iterdir()) == []
    assert tiktoken_counter() is None


@pytest.mark.parametrize("name", ["gpt2", "no such encoding"])
def test_other_encodings_are_not_fetched_either(name: str) -> None:
    """gpt2 has two files, which nobody brings along; another name is no encoding at all."""
    assert tiktoken_counter(name) is None


def test_a_corrupted_file_is_passed_over(only_folder: Path) -> None:
    """A file with another hash is neither used, nor removed, nor fetched anew."""
    damaged = only_folder / FILE_NAME
    damaged.write_bytes(encoding_file().read_bytes()[:-1])
    assert tiktoken_counter() is None
    assert damaged.exists()


def test_a_second_folder_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file in the first folder does not hide a whole one in the next."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder in (good, bad):
        folder.mkdir()
    (bad / FILE_NAME).write_bytes(b"damaged")
    shutil.copy(encoding_file(), good)
    monkeypatch.setattr(tokens, "_cache_folders", lambda: iter([str(bad), str(good)]))
    assert tiktoken_counter() is not None


def test_a_folder_that_cannot_be_read_is_passed_over(only_folder: Path) -> None:
    """A folder in the place of the file, as unreadable as one without permission."""
    (only_folder / FILE_NAME).mkdir()
    assert tiktoken_counter() is None


@pytest.mark.parametrize("value", ["", "/no/such/folder"])
def test_a_cache_variable_that_leads_nowhere(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To tiktoken an empty folder means to fetch each time; here it is no folder, and no more."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", value)
    assert "" not in list(tokens._cache_folders())
    assert tiktoken_counter() is not None, "LiteLLM's folder is still there"
    assert os.environ["TIKTOKEN_CACHE_DIR"] == value


def test_loading_changes_nothing_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment nor tiktoken's own state is touched, not even for a moment."""
    import tiktoken.registry

    theirs: Any = importlib.import_module("tiktoken_ext.openai_public")
    seen: list[tuple[str | None, Any]] = []
    load = tokens._ranks_in_cache

    def watch(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
        seen.append((os.environ.get("TIKTOKEN_CACHE_DIR"), theirs.load_tiktoken_bpe))
        return load(url, expected_hash)

    before = (os.environ.get("TIKTOKEN_CACHE_DIR"), theirs.load_tiktoken_bpe)
    known = dict(tiktoken.registry.ENCODINGS)
    monkeypatch.setattr(tokens, "_ranks_in_cache", watch)
    assert tiktoken_counter() is not None
    assert seen == [before]
    assert known == tiktoken.registry.ENCODINGS


@pytest.mark.usefixtures("forgetful")
def test_parallel_first_counts_load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many threads that count for the first time share one loading, and agree."""
    loads: list[str] = []
    barrier = threading.Barrier(8)
    load = tokens._encoding

    def watch(name: str) -> Any:
        loads.append(name)
        return load(name)

    def first_count(_: int) -> int:
        barrier.wait()
        return best_counter()("hello world")

    monkeypatch.setattr(tokens, "_encoding", watch)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(first_count, range(8))) == {2}
    assert loads == ["o200k_base"]


@pytest.mark.usefixtures("forgetful")
def test_without_tiktoken_sizes_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core needs nothing: where tiktoken is missing, bytes are what is counted."""
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert tiktoken_counter() is None
    assert best_counter() is estimate_tokens


def test_a_tiktoken_of_another_make_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """If its definitions no longer load as we know them, nothing of it is run: it might fetch."""
    real = importlib.util.module_from_spec
    run: list[str] = []

    def other_make(spec: Any) -> Any:
        if spec.name == "tiktoken_ext.openai_public":
            constructors = {"o200k_base": lambda: run.append("it would fetch")}
            monkeypatch.setattr(
                spec.loader,
                "exec_module",
                lambda module: setattr(module, "ENCODING_CONSTRUCTORS", constructors),
            )
        return real(spec)

    monkeypatch.setattr(importlib.util, "module_from_spec", other_make)
    assert tiktoken_counter() is None
    assert run == []


def test_nothing_is_loaded_before_the_first_count() -> None:
    """Importing, and estimating, leave tiktoken where it is."""
    code = (
        "import sys; import tbcontracts.tokens as t; t.estimate_tokens('x' * 99); "
        "assert 'tiktoken' not in sys.modules; t.best_counter()('x'); "
        "assert 'tiktoken' in sys.modules; assert 'litellm' not in sys.modules; "
        "assert 'requests' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
