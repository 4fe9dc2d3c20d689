"""The weights of a training at one moment, to keep, to save and to go back to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from chainrule.compiler.frontend.loop import Loop
from chainrule.compiler.runtime.buffers import address
from chainrule.compiler.runtime.copies import Copies
from chainrule.errors import StateDictError
from chainrule.tensor import Tensor
from chainrule.tensor.core import stored
from chainrule.tensor.creation import from_stored
from chainrule.tensor.functions import no_grad
from chainrule.training import attributes
from chainrule.training.session import Session

Array = np.ndarray[Any, Any]
BESIDE = "attributes."  # in front of the names of tensors that are neither parameter nor buffer


class Weights:
    """Copies of parameters and buffers, of the loss's too, and of the tensors that modules hold beside them.

    Attributes:
        arrays: by name, as the training has it: ``model.0.weight``.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.arrays = arrays

    @classmethod
    def of(cls, handles: Mapping[str, Tensor]) -> Weights:
        """Those of these handles now, also between two steps of a native loop."""
        # Not by `value`, which would note that somebody holds the memory itself.
        return cls({name: np.copy(handle._node._value) for name, handle in handles.items()})  # type: ignore[arg-type]

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The same as tensors, for a file."""
        return {name: from_stored(array) for name, array in self.arrays.items()}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> Weights:
        """What `tensors` gave."""
        return cls({name: stored(value) for name, value in tensors.items()})

    def put(self, session: Session) -> None:
        """The training goes on with these.

        Raises:
            StateDictError: they are not of this model and loss.
        """
        named = session.named()
        self._check(named)
        with no_grad():
            for name, handle in named.items():
                handle.copy_(self.tensors[name])
        beside = {name[len(BESIDE) :]: value for name, value in self.tensors.items() if name not in named}
        if beside:
            attributes.put_all(session.model, session.loss, beside, {})

    def _check(self, named: Mapping[str, Tensor]) -> None:
        for name, handle in named.items():
            found = self.arrays.get(name)
            if found is None or found.shape != handle.shape or found.dtype != handle.dtype.numpy:
                what = "nothing" if found is None else f"{found.dtype.name} of shape {found.shape}"
                raise StateDictError(
                    f"fit: of {name!r}, which is {handle.dtype.name} of shape {tuple(handle.shape)}, a callback kept {what}. "
                    f"Build model and loss as they were when the callback kept them."
                )

    def same(self, other: Weights) -> bool:
        """Are the two the same to the bit?"""
        mine, others = self.arrays, other.arrays
        return mine.keys() == others.keys() and all(_same(array, others[name]) for name, array in mine.items())


class Snapshots:
    """The weights after each of some epochs of a native call, which copies them on its way.

    Args:
        handles: as for `Weights`.
        loop: of the native call.
        most: so many are kept at a time.
        memory: as for `Copies`.

    Attributes:
        copies: what makes them, as a turn of the native call.
    """

    def __init__(self, handles: Mapping[str, Tensor], loop: Loop, most: int, memory: Array | None = None) -> None:
        held = {name: handle._node._value for name, handle in handles.items()}
        # What a step writes lies in row-major order; anything else stays what it is.
        self._moving = {name: value for name, value in held.items() if value is not None and value.flags.c_contiguous}
        self._handles = handles
        pieces = [(address(value), value.nbytes) for value in self._moving.values()]
        self.copies = Copies(loop.copying, pieces, most, memory)

    def at(self, number: int) -> Weights:
        """Those of this epoch, counted from the first that is kept."""
        kept = dict(zip(self._moving, self.copies.pieces(number, list(self._moving.values())), strict=True))
        others = {name: handle for name, handle in self._handles.items() if name not in kept}
        return Weights({**Weights.of(others).arrays, **kept} if others else kept)


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def handles(session: Session) -> dict[str, Tensor]:
    """What `Weights` are the values of."""
    beside = attributes.named(session.model, session.loss)
    return {**session.named(), **{BESIDE + name: value for name, value in beside.items()}}
