"""Functions that give handles new values, and depend on nothing but their arguments: a tape records them as a whole."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from chainrule.graph import Type
from chainrule.tape.doors import Called, through
from chainrule.tape.history import waiting
from chainrule.tensor import Tensor
from chainrule.tensor.core import Engine

Result = tuple[int, Type]  # where it waits, and what it is


class Writing(Called):
    """A function whose first arguments, `written`, name something else afterwards, none of them with a history."""

    def __init__(
        self, function: Callable[..., Tensor | None], written: Sequence[Tensor], args: tuple[Any, ...]
    ) -> None:
        super().__init__(function, (*written, *args), (function, len(written)))
        self.written = written

    def key(self, tape: Any) -> Hashable | None:
        for handle in self.written:
            if handle._views is not None or handle._node.requires_grad:
                return None
        return None if len(set(map(id, self.written))) < len(self.written) else super().key(tape)

    def made(self, tape: Any) -> tuple[Result | None, list[Result]] | None:
        made = [handle._node for handle in self.written]
        returned = None if self.result is None else self.result._node
        for node in made if returned is None else [*made, returned]:
            if not tape.waits(node) or node.place < self.start or node.requires_grad:
                return None
        return None if returned is None else (returned.place, returned.type), [(node.place, node.type) for node in made]

    def again(self, tape: Any, results: tuple[Result | None, list[Result]]) -> None:
        returned, written = results
        for handle, (place, type) in zip(self.written, written, strict=True):
            handle._name(waiting(tape, place, type))
        self.result = None if returned is None else Engine.tensor(waiting(tape, *returned))


def writing(function: Callable[..., Tensor | None], tape: Any, written: Sequence[Tensor], *args: Any) -> Tensor | None:
    """What a function returns that writes to its first arguments, recorded as a whole where that is possible.

    Args:
        tape: of operations that wait; None where they do not.
        written: distinct tensors.
        args: tensors, and what Python can compare.
    """
    if tape is None:
        return function(*written, *args)
    door = Writing(function, written, args)
    return door.result if through(tape, door) else function(*written, *args)
