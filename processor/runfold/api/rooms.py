"""The rooms of the API: one line for each router. DESIGN.md says what a room has to bring along."""

from __future__ import annotations

from litestar import Router

from runfold.api import costs, feed, fleet, ingest, letters, runs

ROUTERS: tuple[Router, ...] = (runs.router, fleet.router, letters.router, feed.router, costs.router, ingest.router)
