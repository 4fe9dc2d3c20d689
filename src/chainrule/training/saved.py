"""A training in one file, out and in: everything that it takes to go on to the bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from chainrule.errors import DamagedFileError, SettingError
from chainrule.nn import state as module_state
from chainrule.tensor import Tensor
from chainrule.tensor.functions import no_grad
from chainrule.training import checkpoints
from chainrule.training.history import History
from chainrule.training.position import Position
from chainrule.training.session import Session
from chainrule.training.settings import Settings

FORMAT = "chainrule.trainer/2"
STREAMS = ("random", "aside")


def save(session: Session, path: str | os.PathLike[str], durable: bool = True) -> None:
    """Write a training to `path`, whole or not at all."""
    named = session.named()
    tensors: dict[str, Tensor] = {f"weights.{name}": handle for name, handle in named.items()}
    tensors.update({f"gradients.{n}": h.grad for n, h in named.items() if h.grad is not None})
    tensors.update({f"streams.{name}": getattr(session, name).get_state() for name in STREAMS})
    meta = {
        "format": FORMAT,
        "optimizer": checkpoints.flatten(session.optimizer.state_dict(), "optimizer", tensors),
        "optimizer_name": type(session.optimizer).__name__,
        "schedules": [type(schedule).__name__ for schedule in session.schedules.all],
        "settings": checkpoints.flatten(session.settings().as_dict(), "settings", tensors),
        "position": asdict(session.position) if session.position is not None else None,
        "history": session.history.as_dict(),
    }
    checkpoints.save_file(tensors, path, meta, durable)


def load(session: Session, path: str | os.PathLike[str]) -> None:
    """Take over what `save` wrote: all of it, or nothing.

    Raises:
        DamagedFileError: the file is missing, cut off, changed, or of another kind.
        StateDictError: it does not fit the model, the loss or the optimizer.
        SettingError: it is of another optimizer, or of other schedules.
    """
    tensors, meta = checkpoints.load_file(path)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise DamagedFileError(
            f"{path}: no training is saved in this file that this version can read. Load plain tensors with "
            f"model.load_state_dict, or name a file that Trainer.save wrote."
        )
    _check_kinds(session, path, meta)
    named = session.named()
    weights, _ = module_state.fitting(type(session.model).__name__, named, _under("weights", tensors))
    gradients = _under("gradients", tensors)
    saved = Settings(**checkpoints.unflatten(meta["settings"], tensors))
    position = Position.from_dict(meta["position"]) if meta["position"] is not None else None
    history = History.from_dict(meta["history"])
    before = session.now()
    try:
        session.optimizer.load_state_dict(checkpoints.unflatten(meta["optimizer"], tensors))
        _put(session, named, weights, gradients, tensors, saved)
    except BaseException:
        session.go_to(before)
        raise
    session.position, session.history, session.start, session.standing = position, history, None, None


def _put(
    session: Session,
    named: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    saved: Settings,
) -> None:
    with no_grad():
        for name, handle in named.items():
            handle.copy_(weights[name])
    for name in STREAMS:
        getattr(session, name).set_state(tensors[f"streams.{name}"])
    modes = {name: own.pop("training") for name, own in saved.modules.items() if "training" in own}
    session.put_settings(saved)
    session.modes = modes  # of the training; the model is used in its own until then
    for name, handle in named.items():
        handle.grad = gradients.get(name)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = len(prefix) + 1
    return {name[start:]: value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def _check_kinds(session: Session, path: str | os.PathLike[str], meta: Mapping[str, Any]) -> None:
    optimizer, schedules = type(session.optimizer).__name__, [type(s).__name__ for s in session.schedules.all]
    if meta["optimizer_name"] != optimizer:
        raise SettingError(
            f"load: {path} holds the state of {meta['optimizer_name']}, this trainer has {optimizer}. "
            f"Build the optimizer as it was when it was saved."
        )
    if meta["schedules"] != schedules:
        raise SettingError(
            f"load: {path} holds the schedules {_listed(meta['schedules'])}, this trainer has {_listed(schedules)}. "
            f"Build the trainer as it was when it was saved, with Trainer(..., scheduler=...)."
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
