"""The environment file: every setting explained, at its default, as ``deploy/runfold.env`` has it.

For ``docker run --env-file``, Compose's ``env_file`` and systemd's ``EnvironmentFile``, which all read lines of
``NAME=value`` and skip what begins with ``#``. It is made from ``SETTINGS``, so that it cannot tell of other ones.
"""

from __future__ import annotations

from runfold.config import SETTINGS, Setting

_HEAD = """\
# Every setting of runfold, at its default. To change one, take away the # before its name.
# Made by `runfold config --env-file`; `runfold config` shows what is in force, and where it came from.
"""


def env_file() -> str:
    """The whole file. Nothing of what is set now is in it, so no secret either."""
    return "\n".join([_HEAD, *map(_entry, SETTINGS)])


def _entry(setting: Setting) -> str:
    told = f"{setting.help} (secret: let nobody else read this file)" if setting.secret else setting.help
    return f"# {told}\n#{setting.variable}={setting.default}\n"
