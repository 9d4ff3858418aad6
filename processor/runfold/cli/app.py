"""All verbs of the command, by name. Their modules are imported when a verb runs, so that ``--help`` answers at once.

A new verb is a line here and a function in a module of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from cyclopts import App, Group, Parameter

from runfold import __version__

_EVENTS, _READING, _PROOF = (
    Group(name, sort_key=place) for place, name in enumerate(("Events", "Reading", "Proof"), 1)
)
_UPKEEP = Group("Upkeep", sort_key=4)
_ABOUT = Group("About", sort_key=5)

_VERBS: tuple[tuple[str, str, Group, str], ...] = (
    ("publish", "publish:publish", _EVENTS, "Publish events from a file or standard input."),
    ("capture", "capture:capture", _EVENTS, "Turn recorded streams or Run objects into events."),
    ("serve", "serve:serve", _EVENTS, "Fold the log into the store until stopped."),
    ("api", "api:api", _READING, "Answer over HTTP, as OpenAI's clients ask."),
    ("demo", "demo:demo", _EVENTS, "See all of it at work on simulated traffic."),
    ("runs", "runs:app", _READING, "List, get and watch Runs."),
    ("usage", "usage:usage", _READING, "Sum up what runs used."),
    ("status", "status:status", _READING, "See what is behind, stuck, missing or rejected."),
    ("dead-letters", "dead_letters:app", _READING, "List, show, retry and discard what was rejected."),
    ("replay", "replay:app", _PROOF, "A run's history, how things stood, and the proof."),
    ("topic", "topic:app", _UPKEEP, "Make and check the Kafka topic of the log."),
    ("store", "store:app", _UPKEEP, "Migrate, check, dump and digest the store."),
    ("keys", "keys:app", _UPKEEP, "Create, list and revoke API keys."),
    ("config", "config:config", _UPKEEP, "The effective settings, and where each came from."),
)


def import_verb(tokens: Sequence[str]) -> None:
    """Import the module of the verb that a command line begins with, if there is one of that name."""
    for name, place, *_ in _VERBS:
        if tokens[:1] == [name]:
            import_module(f"runfold.cli.{place.partition(':')[0]}")


def command_line(verb: str | None = None) -> App:
    """The command. ``verb`` is the one that is asked for: it brings its own help, which says more than a line of a list."""
    app = App(
        name="runfold",
        version=__version__,
        help="Run state changes as immutable events, folded exactly once into current Runs and what they used.",
        help_epilogue="Exit codes: 0 done, 1 the answer is no, 2 wrong use or setting, 3 log or store unreachable, "
        "130 interrupted, 143 terminated.",
        help_format="markdown",
        default_parameter=Parameter(negative=()),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,  # exits.py ends all commands alike
    )
    app["--help"].group = _ABOUT
    app["--version"].group = _ABOUT
    for name, place, group, line in _VERBS:
        app.command(f"runfold.cli.{place}", name=name, group=group, help=None if name == verb else line)
    app.register_install_completion_command(group=_ABOUT)
    return app
