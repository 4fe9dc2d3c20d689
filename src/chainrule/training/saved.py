"""A training in one file, out and in: everything that it takes to go on to the bit.

What a file holds is parsed and checked whole before anything of the training changes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from chainrule import dtypes
from chainrule.errors import DamagedFileError, SettingError, StateDictError
from chainrule.files.document import Fields, is_plain, short
from chainrule.files.writing import shown
from chainrule.nn import state as module_state
from chainrule.nn.meaning import name_of
from chainrule.optim import saved as optimizer_state
from chainrule.tensor import Tensor
from chainrule.tensor.functions import no_grad
from chainrule.training import attributes, checkpoints, possible, state
from chainrule.training.history import History
from chainrule.training.named import Named
from chainrule.training.position import Position
from chainrule.training.session import Session
from chainrule.training.settings import Settings, same_setting

FORMAT = "chainrule.trainer/3"
STREAMS = ("random", "aside")


def save(session: Session, path: str | os.PathLike[str], durable: bool = True, recorded: bool = False) -> None:
    """Write a training to `path`, whole or not at all.

    Args:
        recorded: for a record, which keeps what a callback put into weights whatever it is.

    Raises:
        NonFiniteError: a weight is not finite, so that no training could go on from there.
    """
    named = session.named()
    if not recorded:
        possible.check_savable(session, path)
    tensors: dict[str, Tensor] = {f"weights.{name}": handle for name, handle in named.items()}
    tensors.update({f"gradients.{n}": h.grad for n, h in named.items() if h.grad is not None})
    beside = attributes.named(session.model, session.loss)
    tensors.update({f"attributes.{name}": value for name, value in beside.items()})
    tensors.update({f"streams.{name}": getattr(session, name).get_state() for name in STREAMS})
    meta = {
        "format": FORMAT,
        "training": session.identity,
        "optimizer": checkpoints.flatten(session.optimizer.state_dict(), "optimizer", tensors),
        "optimizer_name": type(session.optimizer).__name__,
        "loss": name_of(session.loss),
        "loss_given": _given(session.loss),
        "modules": {name: type(module).__name__ for name, module in session.members().modules},
        "begun": session.begun,
        "schedules": [type(schedule).__name__ for schedule in session.schedules.all],
        "settings": checkpoints.flatten(session.settings().as_dict(), "settings", tensors),
        "position": asdict(session.position) if session.position is not None else None,
        "history": session.history.as_dict(exact=True),
        "metrics": list(session.metrics),
        "callbacks": checkpoints.flatten(session.callbacks_state(), "callbacks", tensors),
        "data": session.data,
        "rows": session.contents,
        "columns": None if session.columns is None else session.columns.as_dict(),
    }
    checkpoints.save_file(tensors, path, meta, durable)


@dataclass(frozen=True)
class Found:
    """What a file holds, checked: it fits the training that asked."""

    weights: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    streams: Mapping[str, Tensor]
    attributes: Mapping[str, Tensor]
    optimizer: dict[str, Any]
    settings: Settings
    position: Position | None
    history: History
    training: str
    callbacks: list[dict[str, Any]]
    data: str | None
    begun: list[dict[str, Any]] | None
    columns: Named | None
    contents: str | None


def load(session: Session, path: str | os.PathLike[str], recorded: bool = False) -> None:
    """Take over what `save` wrote: all of it, or nothing.

    Args:
        recorded: as for `save`.

    Raises:
        DamagedFileError: the file is missing, cut off, changed, of another kind, or holds what no training saves.
        StateDictError: it does not fit the model, the loss or the optimizer.
        SettingError: it is of another optimizer, or of other schedules.
    """
    with session.held("load"):
        take_over(session, read(session, path, recorded))


def take_over(session: Session, found: Found) -> None:
    """Everything as the file says, or as it was."""
    before = session.now()
    try:
        session.optimizer.load_state_dict(found.optimizer)
        _put(session, found)
    except BaseException:
        session.go_to(before)
        raise
    session.position, session.history, session.start, session.standing = found.position, found.history, None, None
    session.known_as, session.carried, session.data = found.training, found.callbacks, found.data
    session.begun, session.columns, session.contents = found.begun, found.columns, found.contents


def _put(session: Session, found: Found) -> None:
    named, saved = session.named(), found.settings
    with no_grad():
        for name, handle in named.items():
            handle.copy_(found.weights[name])
        attributes.put_all(session.model, session.loss, found.attributes, saved.modules)
    for name in STREAMS:
        getattr(session, name).set_state(found.streams[name])
    modes = {name: own.pop("training") for name, own in saved.modules.items() if "training" in own}
    session.put_settings(saved)
    session.modes = modes  # of the training; the model is used in its own until then
    for name, handle in named.items():
        handle.grad = found.gradients.get(name)


# -- what a file must hold --------------------------------------------------------------------------------


def read(session: Session, path: str | os.PathLike[str], recorded: bool = False) -> Found:
    """What a file holds; `session` is asked what fits it, and not changed."""
    tensors, meta = checkpoints.load_file(path)
    path = shown(path)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise DamagedFileError(
            f"{path}: no training is saved in this file that this version can read. Load plain tensors with "
            f"model.load_state_dict, or name a file that Trainer.save wrote."
        )
    fields = Fields(meta, path)
    _check_kinds(session, path, fields)
    named = session.named()
    weights, _ = module_state.fitting(type(session.model).__name__, named, _under("weights", tensors))
    gradients = _under("gradients", tensors)
    _check_dtypes(path, named, weights)
    _check_gradients(path, named, gradients)
    beside = _under("attributes", tensors)
    _check_attributes(session, path, beside)
    optimizer = checkpoints.unflatten(fields.required("optimizer"), tensors, f"{path}: optimizer")
    slots = optimizer_state.check(session.optimizer, optimizer, whole=True)
    settings = checkpoints.unflatten(fields.required("settings"), tensors, f"{path}: settings")
    position = (
        Position.read(fields.fields("position"), len(session.optimizer.param_groups))
        if fields.has("position")
        else None
    )
    found = Found(
        weights, gradients, {name: _stream(path, name, tensors) for name in STREAMS}, beside, optimizer,
        session.fitting(Fields(settings, f"{path}: settings")), position, History.read(fields.fields("history")),
        fields.text("training"), _callbacks(path, fields, tensors), fields.text("data") if fields.has("data") else None,
        _begun(fields), Named.read(fields.fields("columns")) if fields.has("columns") else None,
        fields.text("rows") if fields.has("rows") else None,
    )  # fmt: skip
    _check_groups(fields, found.settings.groups, optimizer["param_groups"])
    possible.check_state(fields.source, slots.values())
    metrics = fields.items("metrics", lambda name: isinstance(name, str), "a list of names")
    possible.check_progress(session, fields.source, position, found.history, metrics)
    possible.check_streams(fields.source, position, found.streams)
    if not recorded:
        possible.check_weights(session, fields.source, position, weights)
    return found


def _check_groups(fields: Fields, settings: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]) -> None:
    """The settings of the groups stand there twice, and are the same: the state was checked against one of them."""
    for number, (one, other) in enumerate(zip(settings, groups, strict=True)):
        for key in one:
            if key in other and is_plain(one[key]) and is_plain(other[key]) and not same_setting(one[key], other[key]):
                here = Fields(dict(one), f"{fields.source}: settings.groups[{number}]", fields.remedy)
                here.refuse(key, f"as in the optimizer's group, {short(other[key])}", one[key])


def _callbacks(path: object, fields: Fields, tensors: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """What callbacks saved; older files have none."""
    source = f"{path}: callbacks"
    found = checkpoints.unflatten(fields.value.get("callbacks", []), tensors, source)
    for one in found if isinstance(found, list) else [found]:
        saved = Fields(one, source)
        saved.text("kind")
        saved.fields("state")
    return list(found)


def _begun(fields: Fields) -> list[dict[str, Any]] | None:
    """The settings of each group when the training began."""
    if not fields.has("begun"):
        return None
    found = fields.items("begun")
    for number, one in enumerate(found):
        group = Fields(one, f"{fields.source}: begun[{number}]")
        for key in group.names():
            if not is_plain(group.required(key)):
                group.refuse(key, "a plain value", group.required(key))
    return found


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = len(prefix) + 1
    return {name[start:]: value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def _check_dtypes(path: object, named: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for name, value in found.items():
        if value.dtype != named[name].dtype:
            raise StateDictError(
                f"load: {path} holds {name!r} as {value.dtype.name}, this training has it as {named[name].dtype.name}. "
                f"Build the model as it was when it was saved."
            )


def _check_gradients(path: object, named: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for name, value in found.items():
        if name not in named or value.shape != named[name].shape or not named[name].dtype.is_floating_point:
            raise StateDictError(
                f"load: {path} holds a gradient of {name!r}, of shape {tuple(value.shape)}, that fits no tensor of this "
                f"training. Build the model as it was when it was saved."
            )
    _check_dtypes(path, named, found)


def _check_attributes(session: Session, path: object, found: Mapping[str, Tensor]) -> None:
    for name in found:
        if not attributes.fits(session.model, session.loss, name):
            raise StateDictError(
                f"load: {path} holds a tensor for the attribute {name[:80]!r}, which nothing of this training can have. "
                f"Build model and loss as they were when it was saved."
            )


def _stream(path: object, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    found = tensors.get(f"streams.{name}")
    if found is None or found.shape != (2,) or found.dtype is not dtypes.int64:
        what = "nothing" if found is None else f"{found.dtype.name} of shape {tuple(found.shape)}"
        raise DamagedFileError(
            f"{path}: streams.{name} must be int64 [seed, step], got {what}. Copy it again, or train again."
        )
    return found


def _check_kinds(session: Session, path: str | os.PathLike[str], fields: Fields) -> None:
    optimizer, schedules = type(session.optimizer).__name__, [type(s).__name__ for s in session.schedules.all]
    given = fields.text("optimizer_name")
    if given != optimizer:
        raise SettingError(
            f"load: {path} holds the state of {given[:40]}, this trainer has {optimizer}. "
            f"Build the optimizer as it was when it was saved."
        )
    loss = name_of(session.loss)
    if fields.has("loss") and fields.text("loss") != loss:
        raise SettingError(
            f"load: {path} holds a training with the loss {fields.text('loss')[:40]}, this trainer has {loss}. "
            f"Build the trainer as it was when it was saved."
        )
    was, own = fields.fields("loss_given").value if fields.has("loss_given") else {}, _given(session.loss)
    for name in was.keys() & own.keys():
        if was[name] != own[name]:
            raise SettingError(
                f"load: {path} holds a training with a {loss} that was given {short(was[name])}, this trainer has one given "
                f"{short(own[name])}. Build the trainer as it was when it was saved."
            )
    if fields.has("modules"):
        _check_modules(path, fields.fields("modules"), {n: type(m).__name__ for n, m in session.members().modules})
    found = fields.items("schedules", lambda name: isinstance(name, str), "a list of names")
    if found != schedules:
        raise SettingError(
            f"load: {path} holds the schedules {_listed(found)}, this trainer has {_listed(schedules)}. "
            f"Build the trainer as it was when it was saved, with Trainer(..., scheduler=...)."
        )


def _given(loss: Callable[..., Any]) -> dict[str, Any]:
    """The plain values that a partial was given, by the name of each in the loss, as a file has them."""
    partials = [(name, part) for name, part in state.parts(loss) if isinstance(part, partial)]
    found = {name: {**dict(enumerate(part.args)), **part.keywords} for name, part in partials}
    plain = {name: {str(k): v for k, v in values.items() if is_plain(v)} for name, values in found.items()}
    return dict(json.loads(json.dumps(plain)))


def _check_modules(path: str | os.PathLike[str], found: Fields, own: Mapping[str, str]) -> None:
    """Raise unless model and loss consist of modules of the kinds that they had."""
    for name in [*found.names(), *own]:
        was, now = found.text(name) if found.has(name) else "nothing", own.get(name, "nothing")
        if was != now:
            raise SettingError(
                f"load: {path} holds a training with {was[:40]} as {name[:80]!r}, this one has {now}. Build model and loss as "
                f"they were when it was saved."
            )


def _listed(names: list[str]) -> str:
    return ", ".join(name[:40] for name in names[:20]) or "none"
