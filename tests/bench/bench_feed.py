"""What the feed costs: the fold's CPU an event, with nobody reading and with twenty readers of all of it.

Run: ``python tests/bench/bench_feed.py [--events 200000] [--readers 20]``. The two are folded by turns, in processes of their
own, from the same log. CPU is of the folding process alone, its start included, so that other load on the machine does not
count; that of the API process, which serves the readers, stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from itertools import islice
from pathlib import Path
from random import Random

import httpx2
import psutil

sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

from api_serving import ApiServer, publish_and_fold  # noqa: E402
from feed_reading import PATH, events, positions  # noqa: E402
from serving import fill, messages  # noqa: E402

from runfold.demo.traffic import interleaved  # noqa: E402

ROUNDS = 3


def follow(server: ApiServer, end: int, told: list[int]) -> None:
    """Read until the position that all partitions add up to, and say how many states that were."""
    states, last = 0, ""
    while sum(positions(last).values()) < end:
        headers = {"last-event-id": last} if last else {}
        with httpx2.stream(
            "GET", server.url + PATH, params={"after": "beginning"}, headers=headers, timeout=60
        ) as answer:
            for each in events(answer.iter_lines()):
                last, states = each.id, states + bool(each.name)
                if sum(positions(last).values()) >= end:
                    break
    told.append(states)


def folded(folder: Path) -> float:
    """Fold what the log has in a process of its own; returns its CPU seconds."""
    before = psutil.Process().cpu_times()
    environment = os.environ | {"RUNFOLD_DATA": str(folder), "RUNFOLD_BATCH_RECORDS": "5000"}
    command = [sys.executable, "-m", "runfold", "serve", "--no-api", "--until-end"]
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    after = psutil.Process().cpu_times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def with_readers(folder: Path, readers: int, end: int) -> tuple[float, float, int]:
    """CPU seconds of the fold and of the API while it is read, and how many states each reader was told."""
    server, told = ApiServer(folder), list[int]()
    threads = [threading.Thread(target=follow, args=(server, end, told)) for _ in range(readers)]
    for thread in threads:
        thread.start()
    spent = folded(folder)
    for thread in threads:
        thread.join()
    used = psutil.Process(server.pid).cpu_times()
    server.stop()
    return spent, used.user + used.system, sum(told) // len(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--readers", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole"
        publish_and_fold(whole, [])  # a store that readers can open before anything is folded
        asyncio.run(fill(whole, messages(list(islice(interleaved(2_000, Random(1)), asked.events))), partitions=2))
        for number in range(ROUNDS):
            alone, read = Path(place) / f"alone{number}", Path(place) / f"read{number}"
            shutil.copytree(whole, alone)
            shutil.copytree(whole, read)
            quiet = folded(alone)
            spent, served, states = with_readers(read, asked.readers, asked.events)
            print(
                f"fold, nobody reads: {1e6 * quiet / asked.events:.2f} us/event   {asked.readers} readers: "
                f"{1e6 * spent / asked.events:.2f} us/event ({spent / quiet:.2f} x)   the API process: {served:.1f} s "
                f"for {asked.readers} x {states:,} states ({1e6 * served / asked.readers / states:.0f} us each)"
            )


if __name__ == "__main__":
    main()
