"""Draws from given probabilities, means and ranges: ``multinomial``, ``normal`` and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.devices import on_cpu
from chainrule.errors import DataError, SettingError
from chainrule.names import takes_keywords
from chainrule.tensor.core import Handle, integer, settled
from chainrule.tensor.creation import given, sizes_of, tensor
from chainrule.tensor.random import Generator, manual_seed, randint, randn
from chainrule.tensor.random import uniform as uniform_numbers
from chainrule.tensor.tensor import Tensor


@takes_keywords("torch")
def normal(
    mean: Any, std: Any = 1.0, size: Any = None, *, dtype: Any = None, device: Any = None,
    generator: Generator | None = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Normal numbers with this mean and standard deviation.

    Args:
        mean: a number, or a tensor with the mean of each.
        std: likewise, none negative; where both are tensors they broadcast (PyTorch wants one number of elements).
        size: how many, where both are numbers.
        dtype: of the result where both are numbers (float32).
        device: the CPU, or left out.
        generator: where the random numbers come from; the default one if left out.
        requires_grad: record what is computed from them.

    Raises:
        SettingError: numbers without a size, or a size beside tensors.
        DataError: a negative standard deviation.

    >>> import chainrule as cr
    >>> cr.normal(0.0, 1.0, (2, 3)).shape, cr.normal(cr.arange(2.0), cr.zeros(2))
    ((2, 3), tensor([0., 1.]))
    """
    on_cpu(device)
    if not graph.tracing() or not isinstance(std, Handle):
        least = np.min(dtypes.numbers_of(settled(std).value) if isinstance(std, Handle) else std, initial=0)
        if not least >= 0:
            raise DataError(f"{graph.who('normal')}: std must be 0 or more everywhere, got {least}.")
    if isinstance(mean, Handle) or isinstance(std, Handle):
        if size is not None:
            raise SettingError(f"{graph.who('normal')}: size must be left out where mean or std is a tensor.")
        shape = broadcast_of(mean, std)
        kind = next(t.dtype for t in (mean, std) if isinstance(t, Handle))
        drawn = randn(shape, dtype=kind if kind.is_floating_point else dtypes.float32, generator=generator)
        with graph.grad_mode(False):
            result: Tensor = drawn * std + mean
        return result.requires_grad_() if requires_grad else result
    if size is None:
        raise SettingError(f"{graph.who('normal')}: needs a size where mean and std are numbers. Give size=(...).")
    result = randn(sizes_of(size), dtype=dtype, generator=generator) * std + mean
    return result.requires_grad_() if requires_grad else result


def broadcast_of(*values: Any) -> tuple[int, ...]:
    """The common shape of tensors and numbers."""
    return tuple(np.broadcast_shapes(*(v.shape if isinstance(v, Handle) else () for v in values)))


@takes_keywords("torch")
def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Positions drawn with the probabilities that the weights along the last axis have: (..., n) to (..., num_samples).

    Args:
        input: weights, shape (n,) or (rows, n), none negative; they need not add up to 1.
        num_samples: how many for each row.
        replacement: a position may come again.
        generator: where the random numbers come from; the default one if left out.

    Raises:
        DataError: weights that are no probabilities, or fewer that are not 0 than samples without replacement.

    A position of weight 0 is never drawn. Without replacement the weights are divided by exponential numbers, and the
    largest quotients win, in their order.

    >>> import chainrule as cr
    >>> cr.multinomial(cr.tensor([0.0, 1.0, 0.0]), 3, replacement=True)
    tensor([1, 1, 1])

    Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters 97 (2006).
    """
    weights, count = given(input, "multinomial").detach(), integer(num_samples, "multinomial", "num_samples")
    _check_weights(weights, count, replacement)
    with graph.grad_mode(False):
        wide = weights.double()
        if replacement:
            return _first_above(wide, count, generator)
        drawn = uniform_numbers(wide.shape, dtypes.float64, generator)
        quotients = wide / -(-drawn).log1p()
        return quotients.masked_fill(wide == 0, -1.0).topk(count).indices


def _check_weights(weights: Tensor, count: int, replacement: bool) -> None:
    if weights.ndim not in (1, 2) or not weights.dtype.is_floating_point or count < 1:
        raise DataError(
            f"{graph.who('multinomial')}: needs floating weights of shape (n,) or (rows, n) and at least one sample, got "
            f"{weights._node.type} and num_samples={count}."
        )
    if not replacement and count > weights.shape[-1]:
        raise DataError(
            f"{graph.who('multinomial')}: without replacement there are {weights.shape[-1]} samples at most, got "
            f"num_samples={count}. Use replacement=True."
        )
    if graph.tracing():
        return
    values = dtypes.numbers_of(settled(weights).value)
    most = count if not replacement else 1
    if not (np.isfinite(values) & (values >= 0)).all() or ((values > 0).sum(-1) < most).any():
        raise DataError(
            f"{graph.who('multinomial')}: the weights must be finite, none negative, and at least {most} of each row more "
            f"than 0. Clamp them, or use .softmax(-1)."
        )


def _first_above(weights: Tensor, count: int, generator: Generator | None) -> Tensor:
    """For each number up to the whole the first position, of a weight, whose running sum is above it."""
    below = weights.cumsum(-1).masked_fill(weights == 0, -1.0)  # of no weight: never
    whole = below.amax(-1, keepdim=True)
    drawn = uniform_numbers((*weights.shape[:-1], count), dtypes.float64, generator) * whole
    last = (below == whole).long().argmax(-1, keepdim=True)
    if not graph.tracing():
        return _searched(below, drawn).minimum(last)
    above = below.unsqueeze(-2) > drawn.unsqueeze(-1)
    return above.long().argmax(-1).where(above.any(-1), last)


def _searched(below: Tensor, drawn: Tensor) -> Tensor:
    """As many running sums may be out of order by their rounding: it is the first above that counts."""
    line = np.maximum.accumulate(settled(below).value, -1)
    values = settled(drawn).value
    rows, wanted = line.reshape(-1, line.shape[-1]), values.reshape(-1, values.shape[-1])
    found = [np.searchsorted(row, each, "right") for row, each in zip(rows, wanted, strict=True)]
    return tensor(np.reshape(found, values.shape), dtypes.int64)


@takes_keywords("torch")
def randint_like(
    input: Tensor, low: int, high: int | None = None, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, memory_format: Any = None,
) -> Tensor:  # fmt: skip
    """Integers in [low, high), or [0, low), of the shape and dtype of `input`."""
    x = given(input, "randint_like")
    start, end = (0, low) if high is None else (low, high)
    drawn = randint(start, end, x.shape, dtype=dtype or x.dtype, device=device)
    return drawn.requires_grad_() if requires_grad else drawn


@takes_keywords("torch")
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Counts of events with the rates that `input` has, none negative, in its dtype.

    By Knuth's product of uniform numbers in pieces of rate 8 at most (eager only: how many are needed is data).

    >>> import chainrule as cr
    >>> cr.poisson(cr.zeros(2))
    tensor([0., 0.])

    Source: Knuth, "The art of computer programming", volume 2, 3.4.1.
    """
    rates = dtypes.numbers_of(given(input, "poisson")._node.value).astype(np.float64)
    if not (np.isfinite(rates) & (rates >= 0)).all():
        raise DataError(f"{graph.who('poisson')}: the rates must be finite, and none negative. Clamp them.")
    total, left = np.zeros(rates.shape), rates.copy()
    while (left > 0).any():
        piece = np.minimum(left, 8.0)
        left -= piece
        product, alive = np.ones(rates.shape), piece > 0
        while alive.any():
            product *= settled(uniform_numbers(rates.shape, dtypes.float64, generator)).value
            alive &= product > np.exp(-piece)
            total += alive
    return tensor(total, given(input, "poisson").dtype)


def seed() -> int:
    """Start the default generator over from a number that nobody knows, and return it."""
    number = int(np.random.default_rng().integers(2**63))
    manual_seed(number)
    return number
