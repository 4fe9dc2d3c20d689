"""Functions of several tensors, as classes: ``forward``, and a derivative of your own in ``backward``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule import graph
from chainrule.autodiff.custom import with_rule
from chainrule.errors import GradientError
from chainrule.names import module_getattr
from chainrule.tensor import Tensor
from chainrule.tensor.core import lifted
from chainrule.tensor.creation import zeros_like


class Context:
    """What ``forward`` leaves for ``backward``: saved tensors, and whatever else is set as an attribute."""

    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self._without: set[int] = set()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs, outputs or what lies between for ``backward``, where they are ``saved_tensors``."""
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What was saved."""
        return self._saved

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """These outputs have no gradient."""
        self._without |= {id(tensor) for tensor in tensors}

    def set_materialize_grads(self, value: bool) -> None:
        """Nothing: a gradient that did not arrive is always zeros, never None."""

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Not there: what a function changes in place, its derivative would not know.

        Raises:
            GradientError: always.
        """
        raise GradientError("ctx.mark_dirty: a Function must not change its inputs in place. Return a new tensor.")


class Function:
    """A function with a derivative of your own: subclass it, write ``forward`` and ``backward``, call ``apply``.

    ``forward(ctx, *args)`` computes without history; or ``forward(*args)`` with ``setup_context(ctx, inputs, output)``.
    ``backward(ctx, *grads)`` gets a gradient for each output, and returns one for each argument of ``forward``, None where
    there is none. It is differentiable itself as far as its formula is, and compiled with what is around it.

    Raises:
        GradientError: in backward, if the gradients are not as many as the arguments, or not of their types.

    >>> import chainrule as cr
    >>> class Cube(cr.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x ** 3
    ...     @staticmethod
    ...     def backward(ctx, dY):
    ...         (x,) = ctx.saved_tensors
    ...         return dY * 3 * x ** 2
    >>> x = cr.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)

    Where we deviate from PyTorch: outputs with a gradient must be of one dtype; a gradient that did not arrive is zeros.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """From the arguments to a tensor, or a tuple of some."""
        raise NotImplementedError("autograd.Function: write `def forward(ctx, *args):` as a staticmethod of the class.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """What a ``forward`` without `ctx` leaves for ``backward``."""
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """From the outputs' gradients to the arguments'."""
        raise NotImplementedError(
            "autograd.Function: write `def backward(ctx, *grads):` as a staticmethod of the class."
        )

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The function of these arguments, tensors or anything else."""
        ctx = Context()
        tensors = [a for a in args if isinstance(a, Tensor)]
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a.requires_grad for a in args)
        with graph.grad_mode(False):
            if cls.setup_context is Function.setup_context:
                result = cls.forward(ctx, *args)
            else:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
        if not graph.is_grad_enabled() or not any(ctx.needs_input_grad):
            return result
        outputs = list(result) if isinstance(result, tuple) else [result]
        named = _with_history(cls, ctx, args, tensors, outputs)
        return tuple(named) if isinstance(result, tuple) else named[0]


def _with_history(
    cls: type[Function], ctx: Context, args: Sequence[Any], tensors: list[Tensor], outputs: list[Any]
) -> list[Any]:
    """The outputs, those with a gradient under the class's rule."""
    places = [
        i for i, y in enumerate(outputs)
        if isinstance(y, Tensor) and y.dtype.is_floating_point and id(y) not in ctx._without
    ]  # fmt: skip
    if not places:
        return outputs
    kept = _Kept(ctx, tensors, outputs)

    def rule(gradients: Sequence[Tensor], results: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor | None]:
        every, now = [_nothing(y) for y in outputs], list(outputs)
        for place, dY, y in zip(places, gradients, results, strict=True):
            every[place], now[place] = dY, y
        found = cls.backward(kept.restored(given, now), *every)
        return _of_tensors(cls, found, args) + [None] * (len(given) - len(tensors))

    made = with_rule("autograd.Function", [outputs[i] for i in places], [*tensors, *kept.between], rule)
    named = list(outputs)  # another list: the rule keeps the one without history, not itself
    for place, y in zip(places, made, strict=True):
        named[place] = y
    return named


def _nothing(output: Any) -> Tensor | None:
    """The gradient of an output that has none."""
    return zeros_like(output) if isinstance(output, Tensor) else None


class _Kept:
    """What a context holds, so that it can be made again of what the rule is given: it may run in another graph."""

    def __init__(self, ctx: Context, inputs: list[Tensor], outputs: list[Any]) -> None:
        self._ctx, self._count = ctx, len(inputs)
        self._input = {id(x): i for i, x in enumerate(inputs)}
        self._output = {id(y): i for i, y in enumerate(outputs)}
        held = [*ctx._saved, *vars(ctx).values()]
        self.between = [
            t for t in {id(t): t for t in held if isinstance(t, Tensor)}.values()
            if id(t) not in self._input and id(t) not in self._output
        ]  # fmt: skip
        self._between = {id(t): i for i, t in enumerate(self.between)}

    def restored(self, given: Sequence[Tensor], outputs: Sequence[Any]) -> Context:
        """A context with the same things, by the tensors of this run."""

        def now(value: Any) -> Any:
            if id(value) in self._input:
                return given[self._input[id(value)]]
            if id(value) in self._output:
                return outputs[self._output[id(value)]]
            return given[self._count + self._between[id(value)]] if id(value) in self._between else value

        ctx = Context()
        vars(ctx).update({name: now(value) for name, value in vars(self._ctx).items()})
        ctx._saved = tuple(map(now, self._ctx._saved))
        return ctx


def _of_tensors(cls: type[Function], found: Any, args: Sequence[Any]) -> list[Tensor | None]:
    """The gradients of those arguments that are tensors."""
    gradients = list(found) if isinstance(found, (tuple, list)) else [found]
    while len(gradients) > len(args) and gradients[-1] is None:
        gradients.pop()
    if len(gradients) != len(args):
        raise GradientError(
            f"{graph.who(cls.__name__)}: backward must return one gradient for each of the {len(args)} arguments of "
            f"forward, got {len(gradients)}. Return None for arguments without one."
        )
    return [_checked(cls, dX, x) for dX, x in zip(gradients, args, strict=True) if isinstance(x, Tensor)]


def _checked(cls: type[Function], dX: Any, x: Tensor) -> Tensor | None:
    if dX is None:
        return None
    if not isinstance(dX, Tensor) or dX.shape != x.shape:
        came = f"shape {dX.shape}" if isinstance(dX, Tensor) else type(dX).__name__
        raise GradientError(
            f"{graph.who(cls.__name__)}: backward must return a gradient of the shape of each argument, {x.shape}, got "
            f"{came}. Sum or reshape it, or return None."
        )
    return dX if dX.dtype is lifted(x).dtype else dX.to(x.dtype)


__getattr__ = module_getattr("function", __name__)
