"""The Python modules that a bundle brings along.

Every bundle calls them ``scripts``, so two bundles in one process would see each other's. They are
on the path, and known to the interpreter, only while their own bundle is at work.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


class BundleModules:
    """The modules below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._own: dict[str, ModuleType] = {}

    @contextmanager
    def visible(self) -> Iterator[None]:
        """Let the bundle import its own modules; no compiled files are left in its folder."""
        path, writes_nothing = list(sys.path), sys.dont_write_bytecode
        importlib.invalidate_caches()  # the folder may be younger than what Python remembers of it
        sys.modules.update(self._own)
        sys.path.insert(0, str(self.root))
        sys.dont_write_bytecode = True
        try:
            yield
        finally:
            sys.path[:], sys.dont_write_bytecode = path, writes_nothing
            self._own = {name: module for name, module in sys.modules.items() if self._brings(module)}
            for name in self._own:
                del sys.modules[name]

    def _brings(self, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        places = [file] if file else list(getattr(module, "__path__", ()) or ())
        return any(Path(place).is_relative_to(self.root) for place in places)
