"""A real browser for the tests: the system's Chromium, driven from a thread of its own.

Playwright keeps an event loop running on its thread. On the tests' own thread that would be in the
way of every awaited test.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_ARGUMENTS = (
    "--no-sandbox",  # tests may run as root in a container
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
CANARY = "window.__ran = []; window.ran = (who) => window.__ran.push(who);"
"""What hostile text would call, if it could run."""


def find_chromium() -> str | None:
    """Return the path of the system's Chromium."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@dataclass
class Visit(Generic[T]):
    """What a page did while it was open, and what the test found on it."""

    found: T
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    """Console messages, errors and dialogs."""
    ran: list[str] = field(default_factory=list)
    """What called the canary."""


class Chromium:
    """A browser that opens files."""

    def __init__(self, executable: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chromium")
        self._thread.submit(self._start, executable).result()

    def _start(self, executable: str) -> None:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(
            executable_path=executable, args=list(_ARGUMENTS)
        )

    def close(self) -> None:
        """End the browser."""
        self._thread.submit(self._browser.close).result()
        self._thread.submit(self._playwright.stop).result()
        self._thread.shutdown()

    def visit(self, path: Path, look: Callable[[Any], T], **context: Any) -> Visit[T]:
        """Open a file, and look at it.

        Args:
            path: The file.
            look: Given the page, returns what the test wants to know.
            context: Options of the browser's context, such as `color_scheme`.
        """
        return self._thread.submit(self._visit, path, look, context).result()

    def _visit(self, path: Path, look: Callable[[Any], T], context: dict[str, Any]) -> Visit[T]:
        requests: list[str] = []
        messages: list[str] = []

        def dismiss(dialog: Any) -> None:
            messages.append("dialog")
            dialog.dismiss()

        opened = self._browser.new_context(**context)
        try:
            opened.add_init_script(CANARY)
            page = opened.new_page()
            page.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: messages.append(f"error: {error}"))
            page.on("dialog", dismiss)
            page.goto(path.as_uri())
            found = look(page)
            ran = page.evaluate("window.__ran")
        finally:
            opened.close()
        return Visit(found, requests, messages, ran)
