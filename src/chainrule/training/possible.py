"""Values that a training can have come to: a file of the right form and with the right hash may still hold others.

`fit` takes a step as done only where the loss and every parameter are finite after it. What follows from that, and from
how steps and epochs are counted, is asked here. Buffers, gradients and attributes may hold anything: they are the user's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.errors import DamagedFileError, NonFiniteError, SettingError
from chainrule.files.document import AGAIN
from chainrule.files.writing import shown
from chainrule.optim.saved import impossible
from chainrule.tensor import Tensor
from chainrule.tensor.core import numbers
from chainrule.training import state
from chainrule.training.history import History
from chainrule.training.position import Position
from chainrule.training.session import Session

Array = np.ndarray[Any, Any]


def check_weights(session: Session, source: str, position: Position | None, found: Mapping[str, Tensor]) -> None:
    """Once a step was taken, every parameter is finite.

    Raises:
        DamagedFileError: one is not.
    """
    if position is not None and position.done:
        for name, _ in _parameters(session):
            bad = _first(~np.isfinite(_array(found[name])), found[name])
            if bad is not None:
                raise _refused(source, f"weights.{name}{bad}", "a finite number once a step was taken")


def check_savable(session: Session, path: str | os.PathLike[str]) -> None:
    """The same of a training that is about to be saved.

    Raises:
        NonFiniteError: `check_weights` would refuse it.
    """
    if session.position is not None and session.position.done:
        for name, handle in _parameters(session):
            if not state.all_finite([handle]):
                bad = _first(~np.isfinite(_array(handle)), handle)
                raise NonFiniteError(
                    f"save: {name}{bad}, and a training cannot go on from there; nothing was written to {shown(path)!r}. "
                    f"No step left it there: mend the weight first, or save the tensors alone with save_file(model."
                    f"state_dict(), path)."
                )


def check_state(source: str, found: Iterable[Mapping[str, Tensor]]) -> None:
    """Moments are finite, and averages of squares 0 or more (or infinite).

    Raises:
        DamagedFileError: some are not.
    """
    for number, slots in enumerate(found):
        for slot, value in slots.items():
            wrong = impossible(slot, _array(value))
            bad = _first(wrong[0], value) if wrong is not None else None
            if wrong is not None and bad is not None:
                raise _refused(source, f"optimizer.state.{number}.{slot}{bad}", wrong[1])


def check_streams(source: str, position: Position | None, found: Mapping[str, Tensor]) -> None:
    """The steps' stream is that of the training's seed, so far as is known, and both have counted upwards; where callbacks draw from,
    they may have seeded.

    Raises:
        DamagedFileError: they are not, or have not.
    """
    for name, stream in found.items():
        seed, step = stream.tolist()
        if step < 0:
            raise _refused(source, f"streams.{name}[1] = {step}", "a number of draws, 0 or more")
        if name == "random" and position is not None and seed % 2**64 != position.seed:
            raise _refused(
                source, f"streams.{name}[0] = {seed}", f"{_signed(position.seed)}, as the training's seed says"
            )


def check_progress(
    session: Session, source: str, position: Position | None, history: History, metrics: Sequence[str]
) -> None:
    """The history is of as many epochs and steps as the position, and the measures of an epoch are this trainer's.

    Raises:
        DamagedFileError: history and position contradict each other.
        SettingError: this trainer has other metrics than the one that stopped in the middle of an epoch.
    """
    epochs, steps = (position.epoch, position.done) if position is not None else (0, 0)
    for name, count, must in (("epochs", history.epochs, epochs), ("steps", history.steps, steps)):
        if count != must:
            raise _refused(source, f"history: {name} = {count}", f"{must}, as the position says")
    own = ["loss", *session.metrics]
    if position is not None and position.sums and ["loss", *metrics] != own:
        raise SettingError(
            f"load: {source} stands in the middle of an epoch of which is known: {', '.join(['loss', *metrics])[:200]}; this "
            f"trainer measures: {', '.join(own)}. Build it as it was when it was saved, with Trainer(..., metrics=...)."
        )


def _parameters(session: Session) -> Iterator[tuple[str, Tensor]]:
    """What `fit` keeps finite, by name."""
    kept = set(session.members().parameters)
    return ((name, handle) for name, handle in session.named().items() if handle in kept)


def _array(tensor: Tensor) -> Array:
    return numbers(tensor)


def _first(wrong: Array, tensor: Tensor) -> str | None:
    """The first value that is wrong, and where: " [0, 1] = nan"."""
    if not wrong.any():
        return None
    place = tuple(map(int, np.argwhere(wrong)[0]))
    return f"{list(place) if place else ''} = {_array(tensor)[place].item()!r}"


def _refused(source: str, what: str, must: str) -> DamagedFileError:
    return DamagedFileError(f"{source}: {what}, which must be {must}. {AGAIN}")


def _signed(seed: int) -> int:
    return seed - 2**64 if seed >= 2**63 else seed
