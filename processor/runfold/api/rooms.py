"""The rooms of the API: one line for each router. DESIGN.md says what a room has to bring along."""

from __future__ import annotations

from litestar import Router

from runfold.api import console, costs, feed, fleet, ingest, letters, overview, runs

ROUTERS: tuple[Router, ...] = (
    runs.router,
    fleet.router,
    letters.router,
    feed.router,
    overview.router,
    costs.router,
    ingest.router,
    console.router,
)
