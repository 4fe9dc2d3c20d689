"""What shapes a training's steps and is no tensor: all of it taken down, and put back.

Rates and whatever else stands in the optimizer's groups, the schedules' places, which tensors are frozen, and of
every module (the loss's among them) whether it is in training mode and its plain attributes, such as a dropout's p.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chainrule.files.document import Fields, alike, is_plain, short
from chainrule.nn import Module
from chainrule.optim import Optimizer
from chainrule.tensor import Tensor
from chainrule.training import state

Plain = dict[str, Any]
_AT_ONCE = frozenset({bool, int, float, str, type(None)})  # plain by their class alone
_NEVER_PLAIN = (dict, set, Tensor)  # most other attributes of modules are among these


@dataclass(frozen=True)
class Settings:
    """The settings of one moment.

    Attributes:
        groups: of each parameter group, its tensors left out.
        schedules: the state of each schedule.
        modules: by name, the plain attributes of each module, and of a loss that is no module.
        trained: by name, which tensors require grad.
        max_norm: what gradients are clipped to.
    """

    groups: list[Plain]
    schedules: list[Plain]
    modules: dict[str, Plain]
    trained: dict[str, bool]
    max_norm: float | None

    def as_dict(self) -> Plain:
        """Plain dicts and lists."""
        return asdict(self)


def groups_of(optimizer: Optimizer) -> list[Plain]:
    """The settings of each parameter group."""
    return [
        {k: v if type(v) in _AT_ONCE else _kept(v) for k, v in group.items() if k != "params"}
        for group in optimizer.param_groups
    ]


def begun(now: Settings) -> list[Plain]:
    """What a training is begun with and a user sets: of each group; and last, by name, the norm that gradients are clipped
    to, which tensors require grad, and the plain attributes of modules, but for their modes, which `fit` sets."""
    groups = [{key: value for key, value in group.items() if is_plain(value)} for group in now.groups]
    trained = {f"{name}.requires_grad": flag for name, flag in now.trained.items()}
    attributes = {f"{n}.{key}": v for n, own in now.modules.items() for key, v in own.items() if key != "training"}
    return [*groups, {"max_norm": now.max_norm, **trained, **attributes}]


def otherwise(was: Sequence[Plain], then: Settings, now: Settings) -> dict[str, tuple[Any, Any]]:
    """By name, each setting that is neither as a training was begun with it nor as it stood in its file: as begun, and now.

    Args:
        was: what `begun` gave when it began.
        then: those of its file, which schedules and callbacks have moved since.
        now: those of whoever goes on.
    """
    found = {}
    for first, last, own in zip(was, begun(then), begun(now), strict=False):
        for key in first.keys() & own.keys():
            if not any(same_setting(value, own[key]) for value in (first[key], last.get(key, first[key]))):
                found[key] = first[key], own[key]
    return dict(sorted(found.items()))


def fitting(own: Settings, saved: Fields, handles: Mapping[str, Tensor]) -> Settings:
    """The settings of a file, each what may take the place of the one that is there.

    Raises:
        DamagedFileError: some cannot.
    """
    modules, trained = saved.fields("modules"), saved.fields("trained")
    for name in modules.names():
        for key in modules.fields(name).names():
            _check_attribute(modules.fields(name), key, own.modules.get(name, {}).get(key))
    for name in trained.names():
        if trained.flag(name) and name in handles and not handles[name].dtype.is_floating_point:
            trained.refuse(name, "false, as it is no floating tensor", True)
    norm = saved.like("max_norm", 1.0) if saved.has("max_norm") else None
    if norm is not None and not norm > 0:  # it may be infinite: nothing is clipped, and the norm is measured
        saved.refuse("max_norm", "a number above 0, or null", norm)
    groups = _each_like(saved, "groups", own.groups)
    schedules = _each_like(saved, "schedules", own.schedules)
    for number, found in enumerate(schedules):
        Fields(found, f"{saved.source}: schedules[{number}]", saved.remedy).names(own.schedules[number].keys())
    return Settings(groups, schedules, dict(modules.value), dict(trained.value), norm)


def _check_attribute(module: Fields, key: str, own: object) -> None:
    """Attributes are the user's: what was null, or a list of another length, may have become so."""
    if key == "training":
        module.flag(key)
        return
    value, lists = module.required(key), isinstance(own, (list, tuple))
    if not is_plain(value) or not (value is None or alike(own, value) or (lists and isinstance(value, (list, tuple)))):
        module.refuse(key, f"like {short(own)}", value)


def _each_like(saved: Fields, name: str, own: Sequence[Plain]) -> list[Plain]:
    """As many objects as there are, every known field of them like the one that is there, other fields plain."""
    found = saved.items(name)
    if len(found) != len(own):
        saved.refuse(name, f"a list of {len(own)}", found)
    for number, (mine, value) in enumerate(zip(own, found, strict=True)):
        fields = Fields(value, f"{saved.source}: {name}[{number}]", saved.remedy)
        for key in mine:
            fields.like(key, mine[key])
        for key in fields.names():
            if key not in mine and not is_plain(fields.required(key)):
                fields.refuse(key, "a plain value", fields.required(key))
    return found


def put_groups(optimizer: Optimizer, groups: Sequence[Mapping[str, Any]]) -> None:
    """Give the groups these settings. What came from JSON is a list where it was a tuple."""
    for group, saved in zip(optimizer.param_groups, groups, strict=False):
        for key in group.keys() - saved.keys() - {"params"}:
            del group[key]  # a schedule's or a callback's, which came later
        for key, value in saved.items():
            group[key] = _like(group.get(key), value)


def objects(model: Module, loss: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Everything whose plain attributes shape a step, by name: every module, and a loss that is none."""
    parts = list(state.parts(loss))
    for name, part in [("model", model), *parts]:
        if isinstance(part, Module):
            for path, below in part.named_modules():
                yield f"{name}.{path}".rstrip("."), below
    yield from ((name, part) for name, part in parts if not isinstance(part, (Module, Tensor)))


def attributes(thing: Any) -> Plain:
    """The attributes that are numbers, texts, booleans or None, or sequences of them."""
    found = {}
    for key, value in getattr(thing, "__dict__", {}).items():
        if type(value) in _AT_ONCE:
            if _names_setting(key):
                found[key] = value
        elif not isinstance(value, _NEVER_PLAIN) and _is_setting(value) and _names_setting(key):
            found[key] = _kept(value)
    return found


def last(plain: Plain) -> bool:
    """Do these attributes stay what they are until others are assigned?"""
    return all(type(v) in _AT_ONCE or (type(v) is tuple and _AT_ONCE.issuperset(map(type, v))) for v in plain.values())


def _names_setting(key: str) -> bool:
    return key[:2] != "__" and key != "_layer_name"  # where a module is, which is not its own


def _is_setting(value: Any) -> bool:
    return is_plain(value) and (not isinstance(value, (list, tuple)) or type(value) in (list, tuple))


def _kept(value: Any) -> Any:
    """A list as it is now, whatever is put into it later."""
    return type(value)(map(_kept, value)) if type(value) in (list, tuple) else value


def put_attributes(thing: Any, saved: Mapping[str, Any]) -> None:
    """Give back attributes that are others now; those that are not there stay away."""
    own = getattr(thing, "__dict__", {})
    for key, value in saved.items():
        if key in own and _names_setting(key) and _is_setting(own[key]):
            wanted = _like(own[key], value)
            if type(own[key]) is not type(wanted) or own[key] != wanted:
                setattr(thing, key, wanted)


def _like(known: Any, value: Any) -> Any:
    """A value to put in the place of `known`: JSON may have turned it from a tuple into a list."""
    return tuple(value) if isinstance(value, list) and isinstance(known, tuple) else _kept(value)


def same_setting(was: object, now: object) -> bool:
    """Equal, where one may have come from a file, which has lists for tuples."""
    return repr(_listed(was)) == repr(_listed(now))


def _listed(value: object) -> object:
    return [*map(_listed, value)] if isinstance(value, (list, tuple)) else value
