"""What a module says of itself where it cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from chainrule.errors import NestingError, SettingError

Module = Any  # an `nn.Module`, whose file imports this one


def nested_too_deep(module: Module, error: RecursionError) -> RecursionError:
    """What to say where layers are nested so deep that Python cannot call them; the error itself where they are not."""
    depth, level, seen = 0, [module], {id(module)}
    while level:
        below = {id(child): child for each in level for child in each.children() if id(child) not in seen}
        depth, level = depth + 1, list(below.values())
        seen.update(below)
    if depth < sys.getrecursionlimit() // 10:
        return error  # of a function of the user's own that calls itself
    return NestingError(
        f"{type(module).__name__}: its layers are nested {depth:,} deep, more than Python can call within each other "
        f"(sys.getrecursionlimit() is {sys.getrecursionlimit():,}, and each level takes two calls or more). Put them side by "
        f"side, as nn.Sequential(*layers) does."
    )


def not_initialised(module: Module, kind: str, name: str) -> SettingError:
    owner = type(module).__name__
    return SettingError(
        f"{owner}.{name}: a {kind} was assigned before Module.__init__() ran. "
        f"Make `super().__init__()` the first line of {owner}.__init__."
    )


def missing(module: Module, kind: str, name: str, walked: list[str], known: Mapping[str, Any]) -> AttributeError:
    where = f" at {'.'.join(walked)!r}" if walked else ""
    have = ", ".join(key for key, value in known.items() if value is not None) or "none"
    return AttributeError(f"{type(module).__name__}{where} has no {kind} {name!r}. It has: {have}.")
