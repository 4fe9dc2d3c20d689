"""``import chainrule.distributed``: a module of PyTorch's that is not here says so, as a name does."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any


class Absent(MetaPathFinder):
    """The last to be asked for a module of this library: finds none, and says what there is in its place.

    What there is says the ``__getattr__`` of the module above.
    """

    of_chainrule = True  # by which one that an earlier import left is known

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        above, _, name = fullname.rpartition(".")
        if not f"{above}.".startswith("chainrule.") or above not in sys.modules or not _importing():
            return
        try:
            getattr(sys.modules[above], name)
        except AttributeError as error:
            if not str(error).startswith("module "):  # Python's own words, of a name that is nobody's
                raise ModuleNotFoundError(f"No module named {fullname!r}: {error}", name=fullname) from None


def _importing() -> bool:
    """Is it an import that asks, and not ``importlib.util.find_spec``, which gives None for what there is not?"""
    asking = sys._getframe(2).f_back
    return asking is not None and asking.f_code.co_name == "_find_and_load_unlocked"


def announce(elsewhere: Mapping[str, Any]) -> None:
    """Be asked; and modules that stand elsewhere in this library are found at PyTorch's address, too."""
    sys.modules.update({f"chainrule.{name}": module for name, module in elsewhere.items()})
    sys.meta_path[:] = [finder for finder in sys.meta_path if not getattr(finder, "of_chainrule", False)] + [Absent()]
