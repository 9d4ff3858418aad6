"""What handlers are given by name: ``api: GivenApi`` and ``caller: GivenCaller``."""

from __future__ import annotations

from litestar.di import NamedDependency

from runfold.api.api import Api
from runfold.api.auth import Caller

GivenApi = NamedDependency[Api]
GivenCaller = NamedDependency[Caller]
