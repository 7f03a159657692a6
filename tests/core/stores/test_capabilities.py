"""What each store says of itself."""

from __future__ import annotations

import pytest

from tbcontracts.stores import Capabilities, Store, open_store


@pytest.mark.parametrize(
    ("options", "durability"),
    [("", "power"), ("?synchronous=normal", "process"), ("?synchronous=off", "process")],
)
def test_a_file_is_as_safe_as_it_was_opened(
    options: str, durability: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Only "full" survives a power cut; the cuts are made in the tests of processes."""
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('ledger')}/budget.db{options}")
    assert store.capabilities == (durability, "host", True)
    store.close()


@pytest.mark.parametrize("url", ["memory://", "sqlite", "postgresql", "redis"])
def test_what_a_store_says_agrees_with_how_it_is_used(
    url: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    """Durable books survive something; only those of a network leave the host."""
    if url == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/budget.db"
    elif url == "postgresql":
        url = request.getfixturevalue("postgres_server")
    elif url == "redis":
        url = request.getfixturevalue("redis_server").url
    store = open_store(url)
    assert isinstance(store, Store)
    said = store.capabilities
    assert isinstance(said, Capabilities)
    assert store.durable == (said.durability != "none") == (said.cross_process != "none")
    assert store.in_process == (said.cross_process != "network")
    store.close()
