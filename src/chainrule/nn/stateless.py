"""A module called with other parameters than its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from chainrule.errors import SettingError
from chainrule.nn.module import Module
from chainrule.tensor import Tensor

Named = Mapping[str, Tensor]


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Named | Sequence[Named],
    args: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """What a module gives with other tensors in the place of its parameters and buffers; itself it stays as it is.

    Args:
        module: of any kind.
        parameter_and_buffer_dicts: tensors by the names of ``named_parameters()`` and ``named_buffers()``, in one dict or in
            several; what is left out is the module's own.
        args: what it is called with: a tuple, or one argument.
        kwargs: keywords of the call.
        tie_weights: a tensor given for a parameter stands for each name that this parameter has.
        strict: every parameter and buffer must be given.

    Raises:
        SettingError: a name that the module has not, one that is given twice, or (`strict`) one that is missing.

    Example:
        >>> import chainrule as cr
        >>> layer = cr.nn.Linear(2, 1, bias=False)
        >>> cr.func.functional_call(layer, {"weight": cr.tensor([[1.0, 10.0]])}, (cr.tensor([2.0, 3.0]),))
        tensor([32.])
    """
    several = (
        [parameter_and_buffer_dicts]
        if isinstance(parameter_and_buffer_dicts, Mapping)
        else [*parameter_and_buffer_dicts]
    )
    given = {name: tensor for one in several for name, tensor in one.items()}
    if len(given) < sum(map(len, several)):
        raise SettingError("functional_call: a name stands in two of the dicts. Give each tensor once.")
    places = _places(module)
    for name in given:
        if name not in places:
            raise SettingError(
                f"functional_call: {type(module).__name__} has no parameter or buffer {name!r}. It has {', '.join(places)}."
            )
    missing = [name for name in places if name not in given]
    if strict and missing:
        raise SettingError(f"functional_call: strict=True, and there is no tensor for {', '.join(map(repr, missing))}.")
    if tie_weights:
        stand_ins = {id(_own(*places[name])): tensor for name, tensor in given.items()}
        given = {
            name: given.get(name, stand_ins[id(_own(*place))])
            for name, place in places.items()
            if name in given or id(_own(*place)) in stand_ins
        }
    called = () if args is None else args if isinstance(args, tuple) else (args,)
    with _in_place_of([(*places[name], tensor) for name, tensor in given.items()]):
        return module(*called, **(kwargs or {}))


def _places(module: Module) -> dict[str, tuple[Module, str]]:
    """Whose attribute each parameter and buffer is, and its name there."""
    found: dict[str, tuple[Module, str]] = {}
    for path, owner in module.named_modules(remove_duplicate=False):
        for table in (owner._parameters, owner._buffers):
            found.update({f"{path}.{n}" if path else n: (owner, n) for n, t in table.items() if t is not None})
    return found


def _own(owner: Module, name: str) -> Any:
    return owner._parameters.get(name, owner._buffers.get(name))


@contextmanager
def _in_place_of(others: Sequence[tuple[Module, str, Tensor]]) -> Iterator[None]:
    """Inside the block the attributes are these tensors: an object's own, which Python finds before those of its tables."""
    put: list[tuple[Module, str]] = []
    try:
        for owner, name, tensor in others:
            owner.__dict__[name] = tensor
            put.append((owner, name))
        yield
    finally:
        for owner, name in put:
            owner.__dict__.pop(name, None)
