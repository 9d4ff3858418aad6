"""Reading over HTTP: OpenAI's own shapes for Runs, and what only runfold knows beside them, under ``/v1/runfold/``.

``app.py`` puts it together, ``rooms.py`` lists the routers. DESIGN.md says how a room is added.
"""
