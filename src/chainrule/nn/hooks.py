"""A module's call where hooks are registered: before and after ``forward``, and in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from chainrule.autodiff.custom import with_rule
from chainrule.errors import GradientError
from chainrule.graph import is_grad_enabled, who
from chainrule.tensor import Tensor

Gradients = tuple[Tensor | None, ...]


class Hook(NamedTuple):
    """One that was registered: when it is called, and whether with the keyword arguments."""

    kind: str
    function: Callable[..., Any]
    with_kwargs: bool


def call(module: Any, hooks: Sequence[Hook], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``module.forward(*args, **kwargs)`` with its hooks around it."""
    for hook in (hook for hook in hooks if hook.kind == "before"):
        args, kwargs = _before(module, hook, args, kwargs)
    back = _Backward(module, hooks) if is_grad_enabled() and any("backward" in hook.kind for hook in hooks) else None
    if back is not None:
        args = back.arguments(args)
    try:
        result = module.forward(*args, **kwargs)
    except Exception:
        for hook in (hook for hook in hooks if hook.kind == "always"):
            _after(module, hook, args, kwargs, None)
        raise
    for hook in (hook for hook in hooks if hook.kind in ("after", "always")):
        result = _after(module, hook, args, kwargs, result)
    return result if back is None else back.output(result)


def _before(module: Any, hook: Hook, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if hook.with_kwargs:
        return hook.function(module, args, kwargs) or (args, kwargs)
    found = hook.function(module, args)
    if found is None:
        return args, kwargs
    return (found if isinstance(found, tuple) else (found,)), kwargs


def _after(module: Any, hook: Hook, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    found = hook.function(module, args, *([kwargs] if hook.with_kwargs else []), result)
    return result if found is None else found


class _Backward:
    """One call's gradients: those of the output come first, those of the arguments later, each all at once."""

    def __init__(self, module: Any, hooks: Sequence[Hook]) -> None:
        self._module = module
        self._first = [hook.function for hook in hooks if hook.kind == "backward before"]
        self._last = [hook.function for hook in hooks if hook.kind == "backward"]
        self._given: Gradients = ()
        self._places: list[int] = []
        self._count = 0

    def arguments(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, with a look at their gradients."""
        tensors = [a for a in args if isinstance(a, Tensor)]
        self._count = len(tensors)
        self._places = [i for i, t in enumerate(tensors) if t.requires_grad]
        if not self._places or not self._last:
            return args
        made = _looked_at(type(self._module).__name__, [tensors[i] for i in self._places], self._of_arguments)
        for place, x in zip(self._places, made, strict=True):
            tensors[place] = x
        rest = iter(tensors)
        return tuple(next(rest) if isinstance(a, Tensor) else a for a in args)

    def output(self, result: Any) -> Any:
        """The output, likewise: a tensor, or some in a tuple, a list or a dict."""
        parts = list(result.values()) if isinstance(result, dict) else result
        flat = list(parts) if isinstance(parts, (tuple, list)) else [parts]
        places = [i for i, y in enumerate(flat) if isinstance(y, Tensor) and y.requires_grad]
        if not places:
            return result
        count = sum(isinstance(y, Tensor) for y in flat)
        rank = {i: sum(isinstance(y, Tensor) for y in flat[:i]) for i in places}

        def arrived(gradients: Gradients) -> Gradients:
            every = _spread(gradients, [rank[i] for i in places], count)
            for hook in self._first:
                every = _replaced(self._module, "grad_output", hook(self._module, every), every)
            self._given = every
            if not self._places:
                for hook in self._last:
                    hook(self._module, (None,) * self._count, every)
            return tuple(every[rank[i]] for i in places)

        made = _looked_at(type(self._module).__name__, [flat[i] for i in places], arrived)
        for place, y in zip(places, made, strict=True):
            flat[place] = y
        if isinstance(result, dict):
            return dict(zip(result, flat, strict=True))
        if isinstance(result, tuple) and hasattr(result, "_make"):
            return result._make(flat)
        return type(result)(flat) if isinstance(result, (tuple, list)) else flat[0]

    def _of_arguments(self, gradients: Gradients) -> Gradients:
        every = _spread(gradients, self._places, self._count)
        for hook in self._last:
            every = _replaced(self._module, "grad_input", hook(self._module, every, self._given), every)
        return tuple(every[i] for i in self._places)


def _looked_at(name: str, tensors: list[Tensor], look: Callable[[Gradients], Gradients]) -> tuple[Tensor, ...]:
    """The tensors, by a derivative of 1 that shows what it passes on."""
    return with_rule(name, tensors, tensors, lambda gradients, outputs, inputs: look(gradients))


def _spread(gradients: Gradients, places: Sequence[int], count: int) -> Gradients:
    found: list[Tensor | None] = [None] * count
    for place, gradient in zip(places, gradients, strict=True):
        found[place] = gradient
    return tuple(found)


def _replaced(module: Any, what: str, found: Any, before: Gradients) -> Gradients:
    if found is None:
        return before
    given = tuple(found) if isinstance(found, (tuple, list)) else (found,)
    if len(given) != len(before):
        raise GradientError(
            f"{who(type(module).__name__)}: a backward hook must return None, or a {what} of {len(before)} gradients, "
            f"got {len(given)}."
        )
    return given
