"""The statements of the SQL stores; SQLite and PostgreSQL understand the same ones.

Columns stand in the order in which `tbcontracts.stores.rows` has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tbcontracts.errors import ConfigurationError

_DAY_S = 86_400.0
_TIDY_EVERY = 64  # versions of a scope
_TIDY_MOST = 10_000  # journal entries at a time

_ACCOUNT = (
    "contract_json",
    "tracked",
    "place",
    "finished",
    "allocated",
    "consumed",
    "held",
    "unmeasured",
    "denials",
    "expired_holds",
    "owed",
    "confidence",
    "buckets_json",
    "denial_json",
)
_HOLD = (
    "agent",
    "amount",
    "charged",
    "cost",
    "unpriced",
    "status",
    "enforcement",
    "expires_at_s",
    "outcome_json",
)
_KEY = ("command_json", "reply_json", "until_s")
_ENTRY = (
    "at_s",
    "kind",
    "agent",
    "amount",
    "hold_id",
    "moves_json",
    "allocated",
    "consumed",
    "held",
    "pool",
    "facts_json",
)


class Statements:
    """All statements, in the spelling of one database.

    Args:
        prefix: What stands before each table's name.
        mark: How a place for a value is written.
        lock: What makes a reader of a scope's row the only one until the transaction ends.
    """

    def __init__(self, *, prefix: str = "", mark: str = "?", lock: str = "") -> None:
        def put(table: str, columns: tuple[str, ...], keys: tuple[str, ...]) -> str:
            names, marks = ", ".join(keys + columns), ", ".join(mark for _ in keys + columns)
            news = ", ".join(f"{column} = excluded.{column}" for column in columns)
            insert = f"INSERT INTO {prefix}{table} ({names}) VALUES ({marks})"
            return f"{insert} ON CONFLICT ({', '.join(keys[:2])}) DO UPDATE SET {news}"

        def get(table: str, columns: tuple[str, ...], which: str) -> str:
            return (
                f"SELECT {', '.join(columns)} FROM {prefix}{table} WHERE scope_id = {mark} {which}"
            )

        scope = "id, version, seq, now_s, pool, total, closed, unit"
        self.scope = f"SELECT {scope} FROM {prefix}scope WHERE name = {mark}"
        self.scope_locked = self.scope + lock
        self.scopes = f"SELECT name FROM {prefix}scope"
        self.count_entries = f"SELECT count(*) FROM {prefix}journal"
        self.new_scope = (
            f"INSERT INTO {prefix}scope (name, version, seq, now_s, pool, total, closed) "
            f"VALUES ({mark}, 0, 0, 0, 0, 0, 0) ON CONFLICT (name) DO NOTHING"
        )
        self.put_scope = (
            f"UPDATE {prefix}scope SET version = {mark}, seq = {mark}, now_s = {mark}, "
            f"pool = {mark}, total = {mark}, closed = {mark}, unit = {mark} WHERE id = {mark}"
        )
        self.accounts = get("account", ("agent", *_ACCOUNT), f"AND version > {mark} ORDER BY place")
        account = ", ".join(f"account.{column}" for column in ("agent", *_ACCOUNT))
        self.scope_and_accounts = (
            f"SELECT scope.id, scope.version, seq, now_s, pool, total, closed, unit, {account} "
            f"FROM {prefix}scope LEFT JOIN {prefix}account ON scope_id = id "
            f"WHERE id = {mark} ORDER BY place"
        )
        self.put_account = put("account", ("version", *_ACCOUNT), ("scope_id", "agent"))
        self.open_holds = get("hold", ("hold_id", *_HOLD), "AND status = 'open'")
        self.holds = get("hold", ("hold_id", *_HOLD), f"AND version > {mark}")
        self.hold = get("hold", ("hold_id", *_HOLD), f"AND hold_id = {mark}")
        self.put_hold = put("hold", ("version", *_HOLD), ("scope_id", "hold_id"))
        self.key = get("used_key", _KEY, f"AND key = {mark}")
        self.put_key = put("used_key", _KEY, ("scope_id", "key"))
        self.drop_keys = (
            f"DELETE FROM {prefix}used_key WHERE scope_id = {mark} AND until_s <= {mark}"
        )
        oldest = f"SELECT seq FROM {prefix}journal WHERE scope_id = {mark} ORDER BY seq LIMIT"
        old = f"scope_id = {mark} AND at_s <= {mark} AND seq IN ({oldest} {_TIDY_MOST})"
        ends = f"SELECT hold_id FROM {prefix}journal WHERE {old} AND hold_id IS NOT NULL"
        self.drop_ended_holds = (
            f"DELETE FROM {prefix}hold "
            f"WHERE scope_id = {mark} AND status <> 'open' AND hold_id IN ({ends})"
        )
        self.drop_entries = f"DELETE FROM {prefix}journal WHERE {old}"
        self.journal = get("journal", ("seq", *_ENTRY), f"AND seq > {mark} ORDER BY seq")
        entry = ("scope_id", "seq", *_ENTRY)
        self.put_entry = (
            f"INSERT INTO {prefix}journal ({', '.join(entry)}) "
            f"VALUES ({', '.join(mark for _ in entry)})"
        )

    def forgetting(
        self, scope_id: int, version: int, now: float, keep_days: float | None
    ) -> list[tuple[str, Sequence[Any]]]:
        """Return what drops a scope's old journal entries and the holds that ended with them.

        Once in 64 times, and at most 10,000 entries: nobody waits long for it.
        """
        if keep_days is None or version % _TIDY_EVERY:
            return []
        before = now - keep_days * _DAY_S
        old = (scope_id, before, scope_id)
        return [(self.drop_ended_holds, (scope_id, *old)), (self.drop_entries, old)]


def days_in(text: str | None) -> float | None:
    """Read a number of days from a URL; None where there is none.

    Raises:
        ConfigurationError: It is no number of days.
    """
    if text is None:
        return None
    with suppress(ValueError):
        days = float(text)
        if days > 0 and math.isfinite(days):
            return days
    msg = f"keep_days must be a number of days, not {text[:60]!r}."
    raise ConfigurationError(msg, remedy="What helps: keep_days=30, or nothing to keep all.")
