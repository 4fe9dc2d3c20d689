"""Trainings that differ in numbers alone: one of them can run in the compiled steps of another."""

from __future__ import annotations

from collections.abc import Container, Iterable
from functools import partial
from typing import Any

from chainrule.files.document import is_plain
from chainrule.graph import leaf
from chainrule.tensor import Tensor
from chainrule.tensor.core import wrap
from chainrule.tensor.functions import no_grad
from chainrule.training import attributes, state
from chainrule.training.session import Session
from chainrule.training.several import Losses

_TABLES = ("_parameters", "_buffers", "_modules")


def outline(session: Session) -> str:
    """What the compiled steps of a training are made of, without what is copied from twin to twin.

    Two trainings with equal outlines are twins. What it names by identity must be held as long as it is compared.
    """
    optimizer, loss = session.optimizer, session.loss
    places = {id(t): name for name, t in session.named().items()}
    owners: dict[int, int] = {}  # parameters share a counter
    return repr(
        (
            [(name, t.shape, t.dtype, t.requires_grad) for name, t in session.named().items()],
            [(name, _kind(thing)) for name, thing in session.members().objects if not isinstance(thing, Losses)],
            [(sorted(group.keys()), [places[id(p)] for p in group["params"]]) for group in optimizer.param_groups],
            [[(slot, owners.setdefault(id(t), len(owners))) for slot, t in own.items()] for own in _kept(session)],
            _kind(optimizer, but={"defaults"}, values=True),
            [
                _kind(schedule, but={"optimizer", *schedule.state_dict()}, values=True)
                for schedule in session.schedules.all
            ],
            len(session.schedules.by_step),
            [(name, _what(metric)) for name, metric in session.metrics.items()],
            [(key, _what(part), loss.weights[key]) for key, part in loss.losses.items()]
            if isinstance(loss, Losses)
            else _what(loss),
            session.output,
            session.max_norm is None,
        )
    )


def _kind(thing: Any, but: Container[str] = _TABLES, values: bool = False) -> Any:
    """What a module or another object is: its class, and each of its attributes.

    Args:
        but: attributes that are looked at elsewhere.
        values: numbers, flags and texts by their value; else they are copied, and only whether there are some counts.
    """
    own = {} if isinstance(thing, type) else getattr(thing, "__dict__", {})
    plain = repr if values else lambda _: "plain"
    found = {key: plain(value) if is_plain(value) else _what(value) for key, value in own.items() if key not in but}
    return id(type(thing)), sorted((key, what) for key, what in found.items() if not (values and key[:1] == "_"))


def _what(value: Any) -> str:
    """One word for what a value is: a tensor or module by its kind, all else by identity."""
    if isinstance(value, (set, dict)) and not value:
        return type(value).__name__
    if type(value) is partial:  # made anew for each training, as losses with options are
        given = [*enumerate(value.args), *sorted(value.keywords.items())]
        return f"{_what(value.func)} of {[(k, repr(v) if is_plain(v) else _what(v)) for k, v in given]}"
    if isinstance(value, Tensor):
        return f"tensor {value.shape} {value.dtype}"
    if hasattr(value, "_layer_name"):
        return f"module {id(type(value))}"
    if getattr(type(value), "__eq__", object.__eq__) is not object.__eq__ and hasattr(value, "__dataclass_fields__"):
        return repr(value)  # a metric by name
    return f"{type(value).__name__} {id(value)}"


def lend(steps: Session, other: Session) -> None:
    """`steps` stands where its twin stands: its compiled steps find the same tensors as before, with the other's values."""
    _become(steps, other)
    for mine, theirs in zip(*map(_kept, (steps, other)), strict=True):
        # Where a parameter has left a counter behind, it keeps its own.
        _copy(mine.values(), [theirs[slot] for slot in mine])


def give_back(one: Session, steps: Session) -> None:
    """`one` stands where its twin stands, whose steps it was lent."""
    _become(one, steps)
    copies: dict[int, Tensor] = {}  # a counter that parameters share is one
    one.optimizer.state = {
        parameter: {slot: copies.setdefault(id(value), _same(value)) for slot, value in theirs.items()}
        for parameter, theirs in zip(state.optimized(one.optimizer), _kept(steps), strict=True)
        if theirs
    }


def _kept(session: Session) -> list[dict[str, Tensor]]:
    """What the optimizer keeps of each parameter."""
    optimizer = session.optimizer
    return [dict(optimizer.state.get(p, {})) for p in state.optimized(optimizer)]


def _become(one: Session, other: Session) -> None:
    one.put_settings(other.settings())
    one.modes = None if other.modes is None else dict(other.modes)
    members, theirs = one.members(), other.members()
    _copy(members.named.values(), [theirs.named[name] for name in members.named])
    beside = {name: _same(value) for name, value in attributes.named_in(theirs.objects).items()}
    if beside or attributes.named_in(members.objects):
        attributes.put_all(one.model, one.loss, beside, one.settings().modules)
    _copy((one.random.state, one.aside.state), (other.random.state, other.aside.state))
    one.position, one.history, one.start, one.standing = other.position, other.history, None, None
    one.rows, one.fed, one.columns, one.known_as = other.rows, other.fed, other.columns, None
    one.carried, one.begun, one.contents = other.carried, other.begun, other.contents


def _copy(mine: Iterable[Tensor], theirs: Iterable[Tensor]) -> None:
    with no_grad():
        for one, other in zip(mine, theirs, strict=True):
            one._rebind(_same(other), "copy_")


def _same(tensor: Tensor) -> Tensor:
    """Another tensor in the same memory, which both leave as it is: a step that changes one of them copies it first."""
    if tensor._views is not None:
        return tensor.detach().clone()
    return wrap(leaf(tensor._node.value, tensor.dtype))
