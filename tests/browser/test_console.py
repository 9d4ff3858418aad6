"""The console in a real browser: every page opened, filtered and followed, by mouse and by keyboard, wide and narrow."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from api_serving import ApiServer, add_key, api_server, ask, publish_and_fold
from axe_playwright_python.sync_playwright import Axe
from browsing import RUN, Shown, apart, life
from playwright.sync_api import Browser, expect
from serving import fill, messages

PAGES = ["", "runs", f"runs/{RUN}", "usage", "partitions", "letters"]
WIDE = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 360, "height": 740}}


def settled(shown: Shown, path: str) -> None:
    """Open a page and wait until it shows what it is for."""
    page = shown.open(path)
    expect(page.locator("table, .facts").first).to_be_visible()


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "shown",
    [WIDE, WIDE | {"color_scheme": "dark"}, PHONE],
    indirect=True,
    ids=["light", "dark", "phone"],
)
def test_pages_are_accessible(shown: Shown, path: str) -> None:
    """Each page shows itself without a complaint of the browser, and axe finds nothing serious in it."""
    settled(shown, path)
    found = Axe().run(shown.page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("shown", [PHONE], indirect=True, ids=["phone"])
def test_pages_fit_a_phone(shown: Shown, path: str) -> None:
    """At the width of a phone no page is wider than the screen; what is, scrolls by itself."""
    settled(shown, path)
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_overview_shows_changes_as_they_come(shown: Shown, folder: Path) -> None:
    """A run that is published while the overview is open appears in it by itself."""
    with shown.page.expect_response(re.compile("/v1/runfold/feed")):  # what comes before it begins is no change
        page = shown.open()
    expect(page.get_by_role("region", name="Last changes").first).to_contain_text("Nothing has changed")
    apart(asyncio.run, fill(folder, messages(life("run_fresh"))))
    expect(page.get_by_role("link", name="run_fresh")).to_be_visible()
    expect(page.locator(".tile", has_text="Workers")).to_contain_text("1")


def test_runs_are_filtered_and_opened(shown: Shown) -> None:
    """The filter narrows the list, stands in the address, and a run of the list opens on its page."""
    page = shown.open("runs")
    expect(page.locator("tbody tr").first).to_be_visible()
    page.get_by_label("Thread").fill("thread_shown")
    page.get_by_label("Status").select_option("completed")
    page.get_by_role("button", name="Filter").click()
    expect(page).to_have_url(re.compile("status=completed.*thread_id=thread_shown"))
    expect(page.get_by_role("link", name=RUN)).to_be_visible()
    assert set(page.locator("tbody .status").all_inner_texts()) == {"completed"}
    page.get_by_role("link", name=RUN).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(RUN)


def test_more_runs_come_page_by_page(shown: Shown) -> None:
    """More adds the next page to the list, and none twice."""
    page = shown.open("runs")
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("button", name="More").click()
    expect(page.locator("tbody tr")).to_have_count(100)
    shown_ids = page.locator("tbody td:first-child").all_inner_texts()
    assert len(set(shown_ids)) == 100


def test_a_run_tells_its_history(shown: Shown) -> None:
    """A run's page has its timeline and what each record changed, a rejected one too."""
    page = shown.open(f"runs/{RUN}")
    assert page.locator(".timeline .status").all_inner_texts() == [
        *("created", "in progress", "requires action", "in progress", "completed")
    ]
    history = page.get_by_role("region", name="Records of this run in the log")
    expect(history.locator("tbody tr")).to_have_count(6)
    expect(history).to_contain_text("in_progress → requires_action")
    expect(history).to_contain_text("rejected")


def test_usage_is_grouped_zoomed_and_saved(shown: Shown, server: ApiServer) -> None:
    """Usage by model has the API's own sums in its table; dragging over the chart zooms; CSV is what the API exports."""
    page = shown.open("usage")
    expect(page.locator(".chart canvas")).to_be_visible()
    page.get_by_label("By", exact=True).select_option("model")
    sums = page.get_by_role("region", name="Sums")
    expect(sums.locator("tbody tr").nth(1)).to_be_visible()
    shown_sums = {
        row.split("\t")[0]: int(row.split("\t")[1].replace(",", ""))
        for row in sums.locator("tbody tr").all_inner_texts()
    }
    asked = next(url for url in reversed(shown.asked) if "usage/completions" in url)
    told: dict[str, int] = {}
    for bucket in ask(server, asked.removeprefix(server.url)).json()["data"]:
        for one in bucket["results"]:
            told[one["model"]] = told.get(one["model"], 0) + (one["runfold"]["total_tokens"] or 0)
    assert shown_sums == told
    shown.keep("-grouped")
    with page.expect_download() as saving:
        page.get_by_role("button", name="Export CSV").click()
    assert saving.value.path().read_text().startswith("start_time,end_time,")
    area = page.locator(".chart .u-over").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] * 0.3, area["y"] + 20)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.7, area["y"] + 20, steps=5)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"start=\d+"))
    expect(page.get_by_role("button", name="Zoom out")).to_be_visible()


def test_cost_is_shown(shown: Shown) -> None:
    """Cost by model names the price lists it was made by."""
    page = shown.open("usage?metric=cost&range=604800&group=model")
    expect(page.get_by_role("region", name="Sums").locator("tbody")).to_contain_text("$")
    expect(page.locator("main")).to_contain_text("Prices:")


def test_partitions_name_their_worker(shown: Shown) -> None:
    """Workers and partitions are shown with positions and lag."""
    page = shown.open("partitions")
    expect(page.get_by_role("region", name="Workers").locator("tbody tr")).to_have_count(1)
    expect(page.get_by_role("region", name="Partitions").locator("tbody tr")).to_have_count(2)


def test_by_keyboard_alone(shown: Shown) -> None:
    """From the top of the page, Tab and Enter lead over the skip link to a page, its filter, and a run."""
    page = shown.open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_role("navigation").get_by_role("link", name="Runs")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr").first).to_be_visible()
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Run id")).to_be_focused()
    page.keyboard.type(RUN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(RUN)


def test_a_key_is_asked_for_and_kept_for_the_tab(browser: Browser, tmp_path: Path) -> None:
    """With keys, the console asks for one, says why it refuses a wrong one, keeps the right one in this tab, and forgets it."""
    apart(publish_and_fold, tmp_path, life("run_a"))
    key = apart(add_key, tmp_path, "read")
    with api_server(tmp_path) as server, browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{server.url}/#/runs")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("You didn't provide an API key")
        dialog.get_by_label("Key with").fill("rf-wrong-wrong")
        dialog.get_by_role("button").click()
        expect(dialog).to_contain_text("Incorrect API key")
        dialog.get_by_label("Key with").fill(key)
        dialog.get_by_role("button").click()
        expect(page.get_by_role("link", name="run_a")).to_be_visible()
        page.reload()
        expect(page.get_by_role("link", name="run_a")).to_be_visible()
        page.get_by_role("button", name="Forget key").click()
        expect(dialog).to_be_visible()


def test_the_policy_is_strict(server: ApiServer) -> None:
    """Every file of the console comes with a policy that allows our own files and nothing inline."""
    for path in ("/", "/console/main.js", "/console/style.css", "/console/uplot.js"):
        answer = ask(server, path)
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert ask(server, "/console/..%2Fapi.py").status_code == 404
