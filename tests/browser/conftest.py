"""A real browser in front of a real server: Debian's Chromium, driven by Playwright.

Where there is no Chromium it is installed, if this is root on Debian or Ubuntu; else these tests are skipped, and fail where
CI=true. Each test leaves a screenshot in ``tests/browser/.screenshots``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_serving import ApiServer, api_server, publish_and_fold
from browsing import Shown, apart, hours
from debian import program
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium."""
    found = program("chromium", "chromium", "fonts-dejavu-core") or shutil.which("chromium-browser")
    if found is None:
        reason = "no Chromium: on Debian and Ubuntu, apt-get update && apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """For no longer than its tests: while Playwright runs its loop on this thread, no test that is a coroutine can run."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    apart(publish_and_fold, folder, list(hours()))
    return folder


@pytest.fixture(scope="session")
def service(folder: Path) -> Iterator[None]:
    """The service, folding what comes; without its health, whose port another process of these tests may have."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RUNFOLD_")}
    environment = own | {"RUNFOLD_DATA": str(folder), "RUNFOLD_HEALTH": "off"}
    command = [sys.executable, "-m", "runfold", "serve", "--no-api"]
    log = folder / "serve.log"
    with log.open("w") as said, subprocess.Popen(command, env=environment, stderr=said) as serving:
        while "partitions_taken" not in log.read_text():
            assert serving.poll() is None, f"the service ended with {serving.returncode}: {log.read_text()}"
            time.sleep(0.05)
        yield
        serving.terminate()


@pytest.fixture(scope="session")
def server(folder: Path, service: None) -> Iterator[ApiServer]:
    with api_server(folder) as made:
        yield made


@pytest.fixture
def shown(browser: Browser, server: ApiServer, request: pytest.FixtureRequest) -> Iterator[Shown]:
    """A page in a fresh context; fails the test where the browser complained, or anything came from elsewhere."""
    options = request.param if hasattr(request, "param") else {}
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    context.set_default_timeout(20_000)
    made = Shown(context, server, request.node.name.replace("/", "_"))
    yield made
    made.keep()
    context.close()
    assert made.complaints == []
    assert all(url.startswith((server.url, "blob:")) for url in made.asked)
