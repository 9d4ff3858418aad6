"""Builds the compiled short cut of the fold, where that can be done: with a C compiler and Python's headers.

Without them runfold is installed all the same, works alike and gives the same bytes, only slower: what a machine lacks must
not keep anybody from installing. On CI, where somebody relies on what is built, a compiler that fails is an error.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLD = Path("processor", "runfold", "fold")
WITHOUT = "runfold is installed without its compiled fold, which needs a C compiler and Python's headers: {}"


class CompiledFold(BuildHookInterface):
    """Puts the extension beside its sources, which is where an editable install looks, and into the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        extension = FOLD / f"_swift{sysconfig.get_config_var('EXT_SUFFIX')}"
        if not _is_fresh(root, extension):
            (root / extension).unlink(missing_ok=True)
            problem = _build(root)
            if problem is not None:
                if os.environ.get("CI") == "true" and which(sysconfig.get_config_var("CC").split()[0]):
                    raise problem
                self.app.display_warning(WITHOUT.format(problem))
                return
        build_data["artifacts"].append(extension.as_posix())
        if version != "editable":
            build_data["pure_python"], build_data["infer_tag"] = False, True


def _is_fresh(root: Path, extension: Path) -> bool:
    sources = [*(root / FOLD).glob("_*.p[yx][xi]"), Path(__file__)]
    built = root / extension
    return built.is_file() and built.stat().st_mtime > max(source.stat().st_mtime for source in sources)


def _build(root: Path) -> Exception | None:
    """Compile into the source folder; what kept the compiler from it, None where nothing did."""
    # Imported here: hatchling asks for the hook also where nothing is built.
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.errors import CCompilerError, CompileError, ExecError, LinkError, PlatformError

    here = Path.cwd()
    with TemporaryDirectory(prefix="runfold-build-") as workspace:
        try:
            os.chdir(root)
            extension = Extension("runfold.fold._swift", [str(FOLD / "_swift.pyx")], extra_compile_args=["-O2", "-g0"])
            modules = cythonize([extension], build_dir=workspace, quiet=True)
            distribution = Distribution({"name": "runfold", "ext_modules": modules, "package_dir": {"": "processor"}})
            command = distribution.get_command_obj("build_ext")
            command.inplace, command.build_temp, command.build_lib = True, workspace, workspace
            command.ensure_finalized()
            command.run()
        except (CCompilerError, CompileError, ExecError, LinkError, PlatformError, OSError) as error:
            return error
        finally:
            os.chdir(here)
    return None
