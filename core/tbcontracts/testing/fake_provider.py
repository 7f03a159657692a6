"""A local server that speaks a provider's wire format; its request log says what was billed.

Real clients talk to it over real HTTP, so that a test compares the books with what a provider would
bill, and sees how many requests were sent.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tbcontracts.testing.provider_http import BROKEN_OFF, FakeServer, Handler
from tbcontracts.testing.script import (
    MESSAGE_TOKENS,
    Answer,
    Director,
    Fault,
    Script,
    ScriptedRequest,
    count_tokens,
)
from tbcontracts.testing.wire import Asked, Reply, Wire

if TYPE_CHECKING:
    from typing_extensions import Self

HOLD_S = 60.0


@dataclass(frozen=True, kw_only=True)
class LoggedRequest:
    """One request, and what the provider bills for it. Keys and other headers are not kept."""

    index: int
    """Its place in the log, from 0."""
    path: str
    """The path of its URL."""
    model: str
    """The model that it asked for."""
    system_text: str
    """All its system and developer messages."""
    last_text: str
    """Its last message."""
    body: Mapping[str, Any]
    """What was sent."""
    streamed: bool
    """Whether the answer was to come in pieces."""
    output_cap: int | None = None
    """The longest answer that it allowed."""
    status: int = 0
    """The HTTP status of the reply; 0 until there is one."""
    input_tokens: int = 0
    """Billed for the request."""
    output_tokens: int = 0
    """Billed for the answer, reasoning included."""
    cached_tokens: int = 0
    """The part of the input that came from the prompt cache."""
    cache_write_tokens: int = 0
    """The part of the input that was written to the prompt cache."""
    reasoning_tokens: int = 0
    """The part of the output that was reasoning."""
    usage_reported: bool = False
    """Whether the reply said what it cost."""
    completed: bool = False
    """False while it is under way, and when either side broke it off."""

    @property
    def billed_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


class FakeProvider:
    """A provider on this machine, in the format that the class for it knows.

    Args:
        script: What to answer: a function of the `ScriptedRequest`, a sequence, a mapping from a
            part of the system prompt to any of these, or None for short sentences.
        count_tokens: Counts the tokens of a text.
    """

    wire: Wire
    """The wire format that it speaks."""
    base_path: str = ""
    """The path below which its clients look for it."""

    def __init__(
        self, script: Script = None, *, count_tokens: Callable[[str], int] = count_tokens
    ) -> None:
        self._director = Director(script)
        self.count = count_tokens
        self._log: list[LoggedRequest] = []
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._server: FakeServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Listen on a free port of this machine."""
        if self._server is not None:
            msg = "The server is running already."
            raise RuntimeError(msg)
        self._stopping.clear()
        self._server = FakeServer(("127.0.0.1", 0), Handler)
        self._server.fake = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="fake-provider", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening, let held answers go, and close all connections."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self._stopping.set()
        server.shutdown()
        server.close_connections()
        server.server_close()
        thread.join()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        """Start, and return the server."""
        return self.start()

    def __exit__(self, *exception: object) -> None:
        """Stop."""
        self.stop()

    @property
    def url(self) -> str:
        """Its address."""
        if self._server is None:
            msg = "The server is not running."
            raise RuntimeError(msg)
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def base_url(self) -> str:
        """Where its clients find it."""
        return f"{self.url}{self.base_path}"

    @property
    def log(self) -> tuple[LoggedRequest, ...]:
        """All requests, in the order of arrival."""
        with self._changed:
            return tuple(self._log)

    @property
    def billed_tokens(self) -> int:
        """What all requests together are billed."""
        return sum(request.billed_tokens for request in self.log)

    def billed_by(self, key: Callable[[LoggedRequest], Hashable]) -> dict[Hashable, int]:
        """Return what is billed for each value of `key`, such as the system prompt."""
        billed: dict[Hashable, int] = {}
        for request in self.log:
            billed[key(request)] = billed.get(key(request), 0) + request.billed_tokens
        return billed

    def wait_for_requests(self, number: int, timeout_s: float = 30.0) -> None:
        """Wait until so many requests have arrived.

        Raises:
            TimeoutError: They have not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._log) >= number, timeout_s):
                msg = f"Only {len(self._log)} of {number} requests arrived in {timeout_s:g} s."
                raise TimeoutError(msg)

    def wait_until_quiet(self, timeout_s: float = 30.0) -> None:
        """Wait until no request is under way.

        Raises:
            TimeoutError: Some still are.
        """
        with self._changed:
            if not self._changed.wait_for(self._is_quiet, timeout_s):
                msg = f"Requests are still under way after {timeout_s:g} s."
                raise TimeoutError(msg)

    def clear(self) -> None:
        """Forget all requests."""
        with self._changed:
            self._log.clear()

    def _is_quiet(self) -> bool:
        return all(request.status for request in self._log)

    def arrived(self, path: str, body: Mapping[str, Any], asked: Asked) -> ScriptedRequest:
        """Note a request; the handler calls this."""
        with self._changed:
            request = ScriptedRequest(
                index=len(self._log),
                path=path,
                body=body,
                messages=asked.messages,
                tools=asked.tools,
                output_cap=asked.output_cap,
                streamed=asked.streamed,
                model=asked.model,
                choices=asked.choices,
            )
            self._log.append(
                LoggedRequest(
                    index=request.index,
                    path=path,
                    model=request.model,
                    system_text=request.system_text,
                    last_text=request.last_text,
                    body=body,
                    streamed=request.streamed,
                    output_cap=request.output_cap,
                )
            )
            self._changed.notify_all()
        return request

    def note(self, index: int, **facts: Any) -> None:
        """Note what became of a request; the handler calls this."""
        with self._changed:
            if index < len(self._log):
                self._log[index] = replace(self._log[index], **facts)
            self._changed.notify_all()

    def end(self, index: int) -> None:
        """Note that a request is over, if nothing was noted of it."""
        with self._changed:
            known = index < len(self._log) and self._log[index].status
        if not known:
            self.note(index, status=BROKEN_OFF)

    def step(self, request: ScriptedRequest) -> Answer | Fault:
        """Return what the script says, after its hold."""
        step = self._director.step(request)
        if isinstance(step, Answer) and step.hold_after_chunks is None:
            self.wait_for(step.hold)
        return step

    def wait_for(self, event: threading.Event | None, gone: Callable[[], bool] = bool) -> None:
        """Wait until a test lets an answer go, or until its client has gone."""
        waited = 0.0
        while event is not None and waited < HOLD_S and not self._stopping.is_set():
            if event.wait(0.05) or gone():
                return
            waited += 0.05

    def settle(self, request: ScriptedRequest, answer: Answer) -> Reply:
        """Work out what an answer bills."""
        input_tokens = answer.input_tokens
        if input_tokens is None:
            given = json.dumps(request.body.get("tools") or request.body.get("toolConfig"))
            counted = sum(self.count(text) + MESSAGE_TOKENS for _, text in request.messages)
            input_tokens = counted + (self.count(given) if request.tools else 0)
        text, cut_short = self._capped(answer, request.output_cap)
        output_tokens = answer.output_tokens
        if output_tokens is None:
            calls = "".join(f"{call.name}{dict(call.arguments)}" for call in answer.tool_calls)
            output_tokens = self.count(text) + self.count(calls) + answer.reasoning_tokens
        if answer.fill and request.output_cap is not None:
            output_tokens = request.output_cap
        choices = request.choices
        return Reply(
            request.index,
            request.model,
            answer,
            text,
            choices,
            input_tokens,
            output_tokens * choices,
            cut_short,
        )

    def _capped(self, answer: Answer, cap: int | None) -> tuple[str, bool]:
        """Return the part of an answer's text that the output cap allows, and whether it cut."""
        room = None if cap is None else cap - answer.reasoning_tokens
        if room is None or answer.output_tokens is not None or self.count(answer.text) <= room:
            return answer.text, False
        words = answer.text.split(" ")
        while words and self.count(" ".join(words)) > room:
            words.pop()
        return " ".join(words), True
