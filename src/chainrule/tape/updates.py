"""Handles that get their new values when what waits has run: nobody meets one of them in between."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from operator import attrgetter, is_
from typing import Any

from chainrule import graph
from chainrule.graph import Array

_named, _value, _families = map(attrgetter, ("_node", "_array", "_families"))


class Updates:
    """What an optimizer's step changes.

    Args:
        places: where the new values wait.
        handles: one for each.
        types: likewise its dtype, and whether it requires grad.
    """

    __slots__ = ("handles", "places", "types")

    def __init__(self, places: Sequence[int], handles: Sequence[Any], types: Sequence[tuple[Any, bool]]) -> None:
        self.places, self.handles, self.types = places, handles, types

    def give(self, values: Sequence[Array], stayed: bool = False) -> None:
        """Where the program wrote over the old one, which nobody else had, the handle's node stays.

        Args:
            stayed: is that known of all?
        """
        handles = self.handles
        if stayed or all(map(is_, map(_value, map(_named, handles)), values)):
            for handle in filter(_families, handles):
                handle._moved()
            return
        for handle, (dtype, requires_grad), array in zip(handles, self.types, values, strict=True):
            if handle._node._array is not array:
                owner = weakref.ref(handle) if requires_grad else None
                handle._name(graph.leaf(array, dtype, requires_grad, owner))
            elif handle._families:
                handle._moved()

    def before(self, place: int) -> Updates:
        """Those whose places come before this one."""
        count = sum(own < place for own in self.places)
        return Updates(self.places[:count], self.handles[:count], self.types[:count])


NONE = Updates((), (), ())
