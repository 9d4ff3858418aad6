"""What the browser's tests look at: some hours of traffic with one run to look at, and a page that notes every complaint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from api_serving import ApiServer
from fold_stories import event, usage
from playwright.sync_api import BrowserContext, Page

from runfold.demo.traffic import interleaved
from runfold.log.port import Message
from runfold_schemas import Event, RunCompleted, RunCreated, RunInProgress, RunRequiresAction

T = TypeVar("T")

SCREENSHOTS = Path(__file__).parents[1] / "browser" / ".screenshots"
RUN = "run_shown"


def life(run_id: str, *, at: float = 0) -> list[Event]:
    named: dict[str, Any] = {"run_id": run_id, "thread_id": "thread_shown", "source": "app"}
    return [
        event(
            RunCreated, at, **named, assistant_id="asst_shown", model="gpt-4o", metadata={"project_id": "proj_shown"}
        ),
        event(RunInProgress, at + 1, **named),
        event(RunRequiresAction, at + 2, **named, required_action={"type": "submit_tool_outputs", "tool_calls": []}),
        event(RunInProgress, at + 5, **named),
        event(RunCompleted, at + 7, **named, usage=usage(1200, 340)),
    ]


def hours() -> Iterator[Event | Message]:
    """Traffic of some hours up to now, of several models; one run to look at; and a record that nobody can read."""
    now = int(time.time() * 1000)
    for ago in range(8, 0, -1):
        random = Random(ago)
        events = interleaved(20, random, start=now - ago * 3_000_000)
        yield from (next(events) for _ in range(random.randrange(150, 500)))
    yield from life(RUN)
    yield Message(RUN.encode(), b"neither JSON nor MessagePack")


def apart(work: Callable[..., T], *args: Any, **options: Any) -> T:
    """Do what runs an event loop of its own: Playwright's already runs on this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *args, **options).result()


class Shown:
    """A page of the console, and what the browser had to complain about."""

    def __init__(self, context: BrowserContext, server: ApiServer, name: str) -> None:
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self._server, self._name = server, name
        self.page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str = "") -> Page:
        self.page.goto(f"{self._server.url}/#/{path}")
        self.page.wait_for_selector("main h1")
        return self.page

    def keep(self, suffix: str = "") -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{self._name}{suffix}.png", full_page=True)
