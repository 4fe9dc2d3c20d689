"""Where each op of the mirrored graph stands, in O(nodes + edges).

Forward ops stand above the mirror line and their backward twins below it, in the same column, so a
gradient's way back lies under the way its value came. A node is given a column and a lane; lane 0 lies
nearest to the mirror line. What the batch flows through is placed as early as its inputs allow; what
does not depend on it (weights, constants) as late as its readers allow, so a weight stands beside the
product that reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """A column and a lane for each node, in the order given."""

    columns: list[int]
    lanes: list[int]

    @property
    def width(self) -> int:
        """How many columns there are."""
        return max(self.columns, default=-1) + 1


def mirrored(inputs: Sequence[Sequence[int]], flowing: Sequence[bool], owner: Sequence[int] | None = None) -> Layout:
    """Lay out a graph whose nodes are numbered so that each comes after its inputs.

    Args:
        inputs: for each node the numbers of the nodes it reads.
        flowing: whether the node's value depends on the batch.
        owner: the module of each node. Where the batch enters another module, room is left for the weights that
            its first op reads, so that modules in a row do not reach into each other's columns.

    Example:
        >>> mirrored([[], [], [0, 1], [2]], [True, False, True, True])
        Layout(columns=[0, 0, 1, 2], lanes=[0, 1, 0, 0])
    """
    columns = _columns(inputs, flowing, owner or [0] * len(inputs))
    return Layout(columns, _lanes(inputs, flowing, columns))


def _columns(inputs: Sequence[Sequence[int]], flowing: Sequence[bool], owner: Sequence[int]) -> list[int]:
    depth = [0] * len(inputs)
    height = [0] * len(inputs)  # of what does not flow: the longest way to it, itself included
    for node, sources in enumerate(inputs):
        if flowing[node]:
            aside = max((height[source] for source in sources if not flowing[source]), default=0)
            depth[node] = max(
                (depth[s] + 1 + aside * (owner[s] != owner[node]) for s in sources if flowing[s]), default=0
            )
        else:
            height[node] = 1 + max((height[source] for source in sources), default=0)
    late: list[int | None] = [None] * len(inputs)
    for node in reversed(range(len(inputs))):
        if not flowing[node]:
            depth[node] = 0 if late[node] is None else int(late[node] or 0)
        for source in inputs[node]:
            if not flowing[source]:
                before = late[source]
                late[source] = depth[node] - 1 if before is None else min(before, depth[node] - 1)
    first = min(depth, default=0)
    return [column - first for column in depth]


def _lanes(inputs: Sequence[Sequence[int]], flowing: Sequence[bool], columns: Sequence[int]) -> list[int]:
    """The batch's ops first, each in the lane of its first input where that is free; then the others."""
    taken: set[tuple[int, int]] = set()
    free: dict[int, int] = {}  # the lowest lane of a column that may still be free
    lanes = [0] * len(inputs)
    for node in sorted(range(len(inputs)), key=lambda node: not flowing[node]):
        column = columns[node]
        near = [lanes[source] for source in inputs[node] if flowing[source]]
        lane = min(near, default=0) if flowing[node] else max(1, free.get(column, 1))
        if (column, lane) in taken:
            lane = free.get(column, 0)
            while (column, lane) in taken:
                lane += 1
            free[column] = lane
        taken.add((column, lane))
        lanes[node] = lane
    return lanes
