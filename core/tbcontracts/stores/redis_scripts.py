"""Commands as calls of the scripts in `lua/`, and replies out of what these answer.

The scripts are the rules once more, in the server's own language. What they need not decide stays
here: checks of numbers, fingerprints of keys, contracts and facts as JSON.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from tbcontracts import commands
from tbcontracts.books import AccountView, Statement
from tbcontracts.checks import check_amount, check_score, check_seconds
from tbcontracts.commands import Command, Denied, Done, Granted, Posted, Reply
from tbcontracts.contract import BudgetContract
from tbcontracts.events import JournalEntry, Move
from tbcontracts.rules.administration import terms
from tbcontracts.rules.common import check_unit, fingerprint
from tbcontracts.rules.posting import usage_facts
from tbcontracts.stores import codec
from tbcontracts.usage import Usage

Argument = str | int | bytes

_HOLDS = ("common", "holds")
_PARTS = {
    "change_contract": ("common", "contracts", "change_contract"),
    "charge": (*_HOLDS, "posting", "charge"),
    "close": ("common", "close"),
    "confidence": ("common", "confidence"),
    "expire": (*_HOLDS, "expire"),
    "extend": (*_HOLDS, "extend"),
    "finish": ("common", "finish"),
    "journal": ("common", "journal"),
    "open": ("common", "contracts", "open"),
    "read": ("common", "read"),
    "refuse": ("common", "refuse"),
    "reserve": (*_HOLDS, "reserve"),
    "resolve": ("common", "resolve"),
    "settle": (*_HOLDS, "posting", "settle"),
    "top_up": ("common", "contracts", "top_up"),
    "transfer": (*_HOLDS, "transfer"),
    "void": (*_HOLDS, "void"),
}


class Script(NamedTuple):
    """A script's text, and the name that the server knows it by."""

    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return a script, put together from its parts."""
    folder = files("tbcontracts.stores").joinpath("lua")
    text = "\n".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in _PARTS[name])
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class Call(NamedTuple):
    """A command as its script takes it."""

    script: str
    arguments: tuple[Argument, ...]
    attempt: str = ""
    """A name that all copies of this call share, so that only the first of them takes effect."""
    key: str | None = None
    """The idempotency key; one was made for a command that has none and must not be repeated."""
    fingerprint: str = ""
    told: str = ""
    """What finds out the outcome, where the server did not say."""
    posts: bool = False
    """It tells what was used, or gives back; that is never turned away."""


def call_of(command: Command) -> Call:
    """Return the call of a command.

    Raises:
        TypeError: An amount is no whole number.
        ValueError: An amount is out of range, or a name is no text that can be sent.
    """
    return _CALLS[type(command)](command)


def _attempt() -> str:
    return os.urandom(12).hex()


def _keyed(name: str, command: Any, *arguments: Argument, posts: bool = False) -> Call:
    """Return the call of a command that may have a key; if it has none, one is made."""
    attempt, key = _attempt(), getattr(command, "key", None)
    if key is None:
        own = f"attempt-{attempt}"
        return Call(name, arguments, attempt, own, "", own, posts)
    return Call(name, arguments, attempt, key, _fingerprint(command), key, posts)


def _fingerprint(command: Any) -> str:
    """Return what tells a command apart from others under the same key."""
    usage = getattr(command, "usage", None)
    if usage is not None:
        # As two usages are compared.
        alike = replace(usage, raw=None, model=None, cost_micro_usd=None)
        command = command._replace(usage=alike)
    if isinstance(command, commands.Reserve):
        command = command._replace(ttl_s=float(command.ttl_s))
    return hashlib.sha256(codec.dump(fingerprint(command)).encode()).hexdigest()


def _reserve(command: commands.Reserve) -> Call:
    amount = check_amount(command.amount, f"The hold for agent {command.agent!r}")
    leave = check_amount(command.leave, f"What a hold leaves to agent {command.agent!r}")
    ttl_s = check_seconds(command.ttl_s, "ttl_s of a hold")
    sizing = codec.dump(command.sizing)
    facts = f'{{"sizing":{sizing},"ttl_s":{codec.dump(command.ttl_s)}}}'
    print_ = ""
    if command.key is not None:
        print_ = _fingerprint(command._replace(amount=amount, leave=leave))
    arguments = (
        command.agent,
        amount,
        command.hold_id,
        repr(ttl_s),
        leave,
        command.enforcement,
        int(command.track),
        int(command.trial),
        facts,
        sizing,
    )
    told = command.key if command.key is not None else command.hold_id
    return Call("reserve", arguments, _attempt(), command.key, print_, told)


def _refuse(command: commands.Refuse) -> Call:
    amount = check_amount(command.amount, f"The call of agent {command.agent!r}")
    observed, track = int(command.observed), int(command.track)
    model = "" if command.model is None else codec.dump(command.model)
    return _keyed("refuse", command, command.agent, amount, command.code, observed, track, model)


def _settle(command: commands.Settle) -> Call:
    amount = check_amount(command.amount, f"The usage of agent {command.agent!r}")
    facts = usage_facts(command.usage, command.note)
    if not command.final:
        facts |= {"unmeasured": True, "provisional": True}
    arguments = (
        command.hold_id,
        command.agent,
        amount,
        int(command.final),
        int(command.track),
        codec.dump(facts),
        *_usage(command.usage),
    )
    return Call("settle", arguments, _attempt(), told=command.hold_id, posts=True)


def _charge(command: commands.Charge) -> Call:
    amount = check_amount(command.amount, f"The usage of agent {command.agent!r}")
    facts = codec.dump(usage_facts(command.usage, command.note))
    arguments = (command.agent, amount, int(command.track), facts, *_usage(command.usage))
    return _keyed("charge", command._replace(amount=amount), *arguments, posts=True)


def _usage(usage: Usage | None) -> tuple[Argument, ...]:
    if usage is None:
        return ("",)
    return (
        int(usage.measured),
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        "" if usage.cost_micro_usd is None else usage.cost_micro_usd,
    )


def _void(command: commands.Void) -> Call:
    facts = codec.dump({"note": command.note} if command.note else {})
    arguments = (command.hold_id, facts)
    return Call("void", arguments, _attempt(), told=command.hold_id, posts=True)


def _extend(command: commands.Extend) -> Call:
    ttl_s = check_seconds(command.ttl_s, "ttl_s of a hold")
    arguments = (command.hold_id, repr(ttl_s), codec.dump({"ttl_s": command.ttl_s}))
    return Call("extend", arguments, _attempt(), told=command.hold_id, posts=True)


def _expire(command: commands.Expire) -> Call:
    return _keyed("expire", command, check_amount(command.most, "The number of holds to end"))


def _open(command: commands.Open) -> Call:
    parts = [part for contract in command.contracts for part in _contract(contract)]
    for contract in command.contracts:
        check_unit(contract.unit, command.unit)
    return _keyed("open", command, len(command.contracts), command.unit, *parts)


def _change_contract(command: commands.ChangeContract) -> Call:
    was = () if command.was is None else _contract(command.was)
    contract = command.contract
    return _keyed("change_contract", command, contract.unit, *_contract(contract), *was)


def _contract(contract: BudgetContract) -> tuple[Argument, ...]:
    threshold = contract.confidence_threshold
    return (
        contract.agent_name,
        contract.priority,
        contract.max_tokens,
        contract.reserve,
        "" if threshold is None else repr(threshold),
        codec.dump(contract),
        codec.dump(terms(contract)),
    )


def _transfer(command: commands.Transfer) -> Call:
    amount = check_amount(command.amount, "The amount of a transfer")
    keyed = command._replace(amount=amount)
    return _keyed("transfer", keyed, _or_pool(command.donor), command.taker, amount)


def _top_up(command: commands.TopUp) -> Call:
    amount = check_amount(command.amount, "The amount of a top-up")
    return _keyed("top_up", command._replace(amount=amount), _or_pool(command.agent), amount)


def _or_pool(agent: str | None) -> str:
    return "" if agent is None else f"={agent}"


def _finish(command: commands.Finish) -> Call:
    return _keyed("finish", command, command.agent)


def _confidence(command: commands.Confidence) -> Call:
    score = command.score
    if score is not None:
        score = check_score(score, f"confidence of agent {command.agent!r}")
    facts = codec.dump({"score": score})
    return _keyed("confidence", command, command.agent, "" if score is None else repr(score), facts)


def _close(command: commands.Close) -> Call:
    return _keyed("close", command)


_CALLS: dict[type[Any], Callable[[Any], Call]] = {
    commands.Open: _open,
    commands.Reserve: _reserve,
    commands.Refuse: _refuse,
    commands.Settle: _settle,
    commands.Void: _void,
    commands.Extend: _extend,
    commands.Expire: _expire,
    commands.Charge: _charge,
    commands.Transfer: _transfer,
    commands.TopUp: _top_up,
    commands.Finish: _finish,
    commands.ChangeContract: _change_contract,
    commands.Confidence: _confidence,
    commands.Close: _close,
}


# --- answers --------------------------------------------------------------------------------------


def reply_in(answer: Sequence[Any]) -> Reply:
    """Return a reply from a script's answer."""
    kind, *parts = answer
    return _REPLIES[kind](parts)


def _granted(parts: list[Any]) -> Reply:
    hold_id, agent, amount, limit, moves, seq, denial = parts
    would_deny = _denied(denial[1:]) if denial else None
    return Granted(hold_id, agent, amount, float(limit), _moves(moves), seq, would_deny)


def _denied(parts: list[Any]) -> Denied:
    *facts, score, threshold = parts
    return Denied._make((*facts, _number(score), _number(threshold)))


def _posted(parts: list[Any]) -> Reply:
    agent, amount, overdraft, moves, seq, late = parts
    return Posted(agent, amount, overdraft, _moves(moves), seq, late)


def _done(parts: list[Any]) -> Reply:
    return Done(*parts)


_REPLIES: dict[str, Callable[[list[Any]], Reply]] = {
    "granted": _granted,
    "denied": _denied,
    "posted": _posted,
    "done": _done,
}


def _moves(moves: list[Any]) -> tuple[Move, ...]:
    return tuple(Move(donor or None, amount) for donor, amount in moves)


def _number(value: Any) -> float | None:
    """Return a number that may be missing; MessagePack keeps 1.0 as 1."""
    return None if value is False else float(value)


def entry_in(answer: list[Any]) -> JournalEntry:
    """Return a journal entry from a script's answer."""
    seq, at, kind, agent, amount, hold_id, moves, *numbers, facts = answer
    head = (seq, float(at), kind, agent or None, amount, hold_id or None, _moves(moves))
    return JournalEntry._make((*head, *numbers, codec.load(facts)))


def statement_in(answer: list[Any]) -> Statement:
    """Return a scope's books from a script's answer."""
    *numbers, accounts, unit = answer
    return Statement._make((*numbers, tuple(map(_account, accounts)), unit or "tokens"))


def _account(fields: list[Any]) -> AccountView:
    """Return an account from its record; `lua/common.lua` names the fields."""
    name, _, _, _, _, _, tracked, finished, *numbers = fields
    allocated, consumed, held, unmeasured, denials, expired, confidence, _, *rest = numbers
    *buckets, cost, unpriced, contract, owed, _ = rest
    return AccountView._make(
        (
            name,
            None if tracked else codec.load(contract),
            *(allocated, consumed, held, unmeasured),
            *buckets,
            *(denials, expired, finished, _number(confidence), owed, cost, unpriced),
        )
    )
