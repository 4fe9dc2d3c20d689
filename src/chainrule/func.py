"""``torch.func``: derivatives of functions, functions over one more axis, and modules as functions of their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from chainrule.autodiff.transforms import grad, hessian, jacobian, jvp, value_and_grad, vjp
from chainrule.autodiff.trees import leaves, mapped
from chainrule.control import scan
from chainrule.errors import SettingError
from chainrule.graph import shape_error
from chainrule.names import module_getattr, takes_keywords
from chainrule.nn.module import Module
from chainrule.nn.stateless import functional_call
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given
from chainrule.tensor.functions import stack

__all__ = [
    "functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "stack_module_state", "vjp", "vmap",
]  # fmt: skip

Function = Callable[..., Any]
Dims = int | None | Sequence[int | None]


@takes_keywords("func")
def vmap(
    func: Function, in_dims: Dims = 0, out_dims: int | Sequence[int] = 0, randomness: str = "error", *, chunk_size: int | None = None
) -> Function:  # fmt: skip
    """A function of one row made one of many: ``vmap(f)(x)[i] == f(x[i])``.

    The rows go one after the other, in one native loop (`cr.scan`): the values are those of a loop, to the bit, and so are
    the derivatives. PyTorch makes one operation over all rows of each; where an operation takes one more axis as it is,
    write it so, and it is as fast here.

    Args:
        func: from tensors (or lists, tuples and dicts of them) to a tensor, or a tuple of them.
        in_dims: for each argument the axis of its rows, or None for one that is the same for all; one number is for all.
        out_dims: where the rows lie in the result; one number, or one for each result of a tuple.
        randomness: ``"different"``, which is what happens in any case: each row draws its own numbers. ``"error"`` is accepted.
        chunk_size: accepted, and without effect.

    Returns:
        The function of many; keywords are the same for all rows.

    Raises:
        SettingError: axes for another number of arguments or results, no rows at all, or ``randomness="same"``.
        ShapeError: arguments with different numbers of rows.

    Example:
        >>> import chainrule as cr
        >>> x = cr.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> cr.vmap(cr.dot)(x, x)
        tensor([ 5., 25.])
        >>> cr.vmap(cr.grad(lambda w, x: (w * x).sum() ** 2), in_dims=(None, 0))(cr.ones(2), x)  # a gradient for each row
        tensor([[ 6., 12.],
                [42., 56.]])
    """
    if randomness not in ("error", "different"):
        raise SettingError(
            f"vmap: randomness must be 'different' (each row draws its own numbers), got {randomness!r}."
        )

    @wraps(func)
    def over_rows(*args: Any, **kwargs: Any) -> Any:
        dims = _each("in_dims", in_dims, len(args), "arguments")
        rows = [_first(value, dim) for value, dim in zip(args, dims, strict=True) if dim is not None]
        _check_rows(leaves(rows))

        def one(carry: Any, row: Any) -> Any:
            several = iter(row)
            return carry, func(
                *(a if dim is None else next(several) for a, dim in zip(args, dims, strict=True)), **kwargs
            )

        _, found = scan(one, [], rows)
        if isinstance(found, tuple):
            outs = _each("out_dims", out_dims, len(found), "results")
            return tuple(_placed(value, dim) for value, dim in zip(found, outs, strict=True))
        (place,) = _each("out_dims", out_dims, 1, "result")
        return _placed(found, place)

    return over_rows


def _each(name: str, dims: Any, count: int, what: str) -> list[int | None]:
    if isinstance(dims, (tuple, list)):
        if len(dims) == count and all(dim is None or isinstance(dim, int) for dim in dims):
            return list(dims)
    elif dims is None or isinstance(dims, int):
        return [dims] * count
    raise SettingError(f"vmap: {name} must be an axis, or one for each of the {count} {what}, got {dims!r}.")


def _first(value: Any, dim: int | None) -> Any:
    """All tensors of an argument with their rows in front."""
    return mapped(lambda leaf: given(leaf, "vmap").movedim(dim, 0) if dim else given(leaf, "vmap"), value)


def _placed(value: Any, dim: int | None) -> Any:
    return value if not dim else mapped(lambda leaf: leaf.movedim(0, dim), value)


def _check_rows(tensors: Sequence[Tensor]) -> None:
    if not tensors:
        raise SettingError(
            "vmap: no argument has rows: in_dims is None for all of them. Give an axis for one at least."
        )
    counts = [tensor.shape[0] if tensor.ndim else None for tensor in tensors]
    if None in counts or len(set(counts)) > 1:
        raise shape_error(
            "vmap", "all tensors that have rows must have as many", f"shapes {', '.join(str(t.shape) for t in tensors)} with the rows in front",
            "Set in_dims to None for those that are the same for all rows.",
        )  # fmt: skip


@takes_keywords("func")
def grad_and_value(func: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """``cr.value_and_grad`` the other way round: (gradient, value), and with `has_aux` (gradient, (value, aux)).

    Example:
        >>> import chainrule as cr
        >>> cr.func.grad_and_value(lambda x: x * x)(cr.tensor(3.0))
        (tensor(6.), tensor(9.))
    """
    both = value_and_grad(func, argnums, has_aux)

    @wraps(func)
    def exchanged(*args: Any) -> Any:
        value, gradient = both(*args)
        return gradient, value

    return exchanged


@takes_keywords("func")
def jacrev(
    func: Function, argnums: int | Sequence[int] = 0, *, has_aux: bool = False, chunk_size: int | None = None
) -> Function:
    """``cr.jacobian``: dY/dX, of shape Y.shape + X.shape; `chunk_size` has no effect.

    Example:
        >>> import chainrule as cr
        >>> cr.func.jacrev(lambda x: x * x)(cr.tensor([1.0, 2.0]))
        tensor([[2., 0.],
                [0., 4.]])
    """
    return jacobian(func, argnums, has_aux)


@takes_keywords("func")
def jacfwd(
    func: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Function:
    """``cr.jacobian``: the same values as `jacrev`, and computed backwards too; `randomness` has no effect."""
    return jacobian(func, argnums, has_aux)


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and the buffers of modules of one kind, each stacked along a new first axis: for `vmap` over models.

    Args:
        models: modules with the same parameters and buffers, one at least.

    Returns:
        (parameters, buffers) by name; parameters are leaves that require a gradient.

    Raises:
        SettingError: no module, or modules of several kinds.

    Example:
        >>> import chainrule as cr
        >>> models = [cr.nn.Linear(2, 3) for _ in range(4)]
        >>> params, buffers = cr.func.stack_module_state(models)
        >>> params["weight"].shape
        (4, 3, 2)
        >>> cr.vmap(lambda p, x: cr.func.functional_call(models[0], p, x), in_dims=(0, None))(params, cr.ones(5, 2)).shape
        (4, 5, 3)
    """
    if not models or len({type(model) for model in models}) > 1:
        raise SettingError(
            f"stack_module_state: needs modules of one class, got {', '.join(type(m).__name__ for m in models) or 'none'}."
        )

    def stacked(tables: Sequence[Mapping[str, Tensor]], needed: bool) -> dict[str, Tensor]:
        return {
            name: stack([table[name].detach() for table in tables]).requires_grad_(needed and tensor.requires_grad)
            for name, tensor in tables[0].items()
        }

    return (
        stacked([dict(model.named_parameters()) for model in models], True),
        stacked([dict(model.named_buffers()) for model in models], False),
    )


__getattr__ = module_getattr("func", __name__)
