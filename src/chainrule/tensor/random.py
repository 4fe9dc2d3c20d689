"""Random tensors from a counter: seed, step of the generator, element."""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.devices import CPU, on_cpu
from chainrule.devices import device as Device
from chainrule.dtypes import DType
from chainrule.errors import DataError, DtypeError, SettingError
from chainrule.graph import Shape
from chainrule.names import takes_keywords
from chainrule.ops import random
from chainrule.tensor.core import Engine, Handle, apply, integer, wrap
from chainrule.tensor.creation import arange, given, sizes_of, tensor
from chainrule.tensor.ranges import check_span
from chainrule.tensor.tensor import Tensor
from chainrule.tensor.whole import whole


class Generator:
    """A source of random numbers whose whole state is one tensor, int64 [seed, step].

    Each draw uses one step. The state is an ordinary handle: a compiled step reads and writes it like
    a weight, and a checkpoint saves it like one.

    >>> import chainrule as cr
    >>> g = cr.Generator(7)
    >>> bool((cr.rand(3, generator=g) == cr.rand(3, generator=cr.Generator(7))).all())
    True
    """

    wide = False  # see `Reread`

    def __init__(self, seed: int = 0, *, device: object = None) -> None:
        on_cpu(device)
        self.state = _start(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start over from `seed` (any 64-bit integer)."""
        self.state._rebind(_start(seed), "manual_seed")
        return self

    def initial_seed(self) -> int:
        """The seed that it was started with, from 0 to 2**64 - 1."""
        return int(self.state[0]) % 2**64

    @property
    def device(self) -> Device:
        """The CPU."""
        return CPU

    def get_state(self) -> Tensor:
        """A copy of the state, int64 [seed, step]."""
        return self.state.clone()

    def set_state(self, state: Tensor) -> None:
        """Continue from a state that `get_state` gave.

        Raises:
            SettingError: it is none.
        """
        if not isinstance(state, Handle) or state.shape != (2,) or state.dtype is not dtypes.int64:
            came = f"shape {state.shape} of {state.dtype.name}" if isinstance(state, Handle) else type(state).__name__
            raise SettingError(f"set_state: the state must be the int64 tensor [seed, step] of get_state, got {came}.")
        self.state.copy_(state)

    def bits(self, shape: Shape, words: int = 1) -> tuple[Tensor, ...]:
        """`words` independent tensors of 32 random bits each (int32); uses one step."""
        if not graph.tracing():
            graph.check_size("random", shape, dtypes.int32)
        with graph.grad_mode(False):
            drawn = tuple(apply(random.random_bits, self.state, shape=shape, word=word) for word in range(words))
            self.state += _one_step()
        return drawn

    def heard(self, source: Generator) -> None:
        """`source` is about to be drawn from while this is what the thread draws from."""

    def reseed(self, seed: int) -> None:
        """Somebody called ``cr.manual_seed`` while this is what the thread draws from."""
        self.manual_seed(seed)


class Owned(Generator):
    """A stream that only its owner seeds, such as the one that the steps of a training draw from."""

    def reseed(self, seed: int) -> None:
        """Nothing."""


class Reread(Generator):
    """Another generator's stream, for whoever evaluates one function several times and must meet the same numbers.

    Drawn from with `drawing_from`, it takes down every generator that a draw names, so that all can be set back.
    Where it is `wide`, uniform and normal numbers have the bits that float32 draws have, and float64's arithmetic and
    dtype, whatever dtype is asked for: a model converted to float64 draws what it drew in float32, to rounding.

    Attributes:
        starts: this stream, and other generators drawn from in eager mode, each with its state before the first draw.
    """

    def __init__(self, generator: Generator, wide: bool = False) -> None:
        self.state, self.wide = generator.state, wide
        self.starts: list[tuple[Generator, Tensor]] = [(self, self.get_state())]

    def heard(self, source: Generator) -> None:
        if graph.current_trace() is None and not any(source.state is known.state for known, _ in self.starts):
            self.starts.append((source, source.get_state()))

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draws inside the block come from here; afterwards all stand where they stood, to be drawn once more."""
        try:
            with drawing_from(self):
                yield
        finally:
            for generator, state in self.starts:
                generator.set_state(state)


def _one_step() -> Tensor:
    """What a draw adds to the state of a stream."""
    return tensor([0, 1], dtypes.int64) if graph.written() else wrap(graph.leaf(np.array([0, 1]), dtypes.int64))


def _start(seed: int) -> Tensor:
    """The state of a stream that begins."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise SettingError(f"manual_seed: the seed must be an integer, got {seed!r}. Use a fixed one such as 0.")
    return wrap(graph.leaf(np.array([operator.index(seed) % 2**64, 0], np.uint64).view(np.int64), dtypes.int64))


default_generator = Generator(0)


class _Local(threading.local):
    """What each thread draws from where it names no generator."""

    generator = default_generator


_local = _Local()


def current_generator() -> Generator:
    """What this thread draws from where it names no generator: the default one, unless `drawing_from` says otherwise.

    A compiled function that asks is traced anew when the answer is another.
    """
    found = _local.generator
    trace = graph.current_trace()
    if trace is not None:
        trace.guards.append((lambda: _local.generator is found, True))
    return found


class drawing_from:
    """Inside the block, this thread draws from the generator; no other thread notices.

    >>> import chainrule as cr
    >>> with drawing_from(cr.Generator(7)):
    ...     a = cr.rand(2)
    >>> cr.equal(a, cr.rand(2, generator=cr.Generator(7)))
    True
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def __enter__(self) -> Generator:
        self._outer, _local.generator = _local.generator, self._generator
        return self._generator

    def __exit__(self, *_: object) -> None:
        _local.generator = self._outer


@takes_keywords("torch")
def manual_seed(seed: int) -> Generator:
    """Start the default generator over: the same seed gives the same bits, eager or compiled.

    In a callback of ``fit`` and wherever else this thread draws from another stream, that one starts over too; the stream
    that a training's own steps draw from stays as it is.

    >>> import chainrule as cr
    >>> _ = cr.manual_seed(0); a = cr.rand(2)
    >>> _ = cr.manual_seed(0); cr.equal(a, cr.rand(2))
    True
    """
    found, current = default_generator.manual_seed(seed), _local.generator
    if current is not found and graph.current_trace() is None:
        current.reseed(seed)
    return found


def get_rng_state() -> Tensor:
    """Where the default generator stands, which a checkpoint of a loop of your own keeps beside weights and optimizer.

    Returns:
        int64 tensor [seed, step]. (PyTorch's is of bytes; both go to ``set_rng_state`` and into a file as they are.)

    >>> import chainrule as cr
    >>> state = cr.get_rng_state(); a = cr.rand(2)
    >>> cr.set_rng_state(state); cr.equal(a, cr.rand(2))
    True
    """
    return default_generator.get_state()


@takes_keywords("torch")
def set_rng_state(new_state: Tensor) -> None:
    """Let the default generator go on from where `get_rng_state` found it.

    Args:
        new_state: int64 tensor [seed, step].

    Raises:
        SettingError: it is no such tensor.
    """
    default_generator.set_state(new_state)


def initial_seed() -> int:
    """The seed that the default generator was started with, from 0 to 2**64 - 1.

    >>> import chainrule as cr
    >>> _ = cr.manual_seed(7); cr.initial_seed()
    7
    """
    return default_generator.initial_seed()


def _source(generator: Generator | None) -> tuple[Generator, bool]:
    """What to draw from, and whether it is to be `wide`."""
    current = current_generator()
    source = generator or current
    current.heard(source)
    return source, current.wide


def uniform(shape: Shape, dtype: DType, generator: Generator | None) -> Tensor:
    """Uniform in [0, 1), with 24 random bits (float32), 53 (float64), or 8 (bfloat16, which thus never rounds up to 1)."""
    _need_float("uniform", dtype)
    source, wide = _source(generator)
    if wide:
        return _unit32(*source.bits(shape)).double()
    if dtype == dtypes.float64:
        return _unit64(*source.bits(shape, 2))
    if dtype.only_stores:
        return (((source.bits(shape)[0] >> 24) & 0xFF).float() * 2.0**-8).to(dtype)
    return _unit32(*source.bits(shape)).to(dtype)


def _fine(shape: Shape, generator: Generator | None) -> Tensor:
    """Uniform in [0, 1), with 53 random bits always."""
    source, _ = _source(generator)
    return _unit64(*source.bits(shape, 2))


def _need_float(name: str, dtype: DType) -> None:
    if not dtype.is_floating_point:
        raise DtypeError(
            f"{graph.who(name)}: draws floating-point numbers, got dtype {dtype.name}. Use cr.randint for integers."
        )


@whole
def _unit32(bits: Tensor) -> Tensor:
    return ((bits >> 8) & 0xFFFFFF).float() * 2.0**-24


@whole
def _unit64(high: Tensor, low: Tensor) -> Tensor:
    upper, lower = ((high >> 5) & 0x7FFFFFF).double(), ((low >> 6) & 0x3FFFFFF).double()
    return (upper * 2.0**26 + lower) * 2.0**-53


def normal(shape: Shape, dtype: DType, generator: Generator | None) -> Tensor:
    """Standard normal: sqrt(-2 ln(1 - u)) cos(2 pi v).

    Source: Box and Muller, "A note on the generation of random normal deviates", Annals of Mathematical
    Statistics 29 (1958).
    """
    _need_float("normal", dtype)
    local = graph._local
    tape = local.tape if local.trace is None else None
    if tape is None:
        return _normal(shape, dtype, generator)
    local.tape = None  # at once: a seed gives the same bits whether operations wait, which NumPy's logarithm decides
    try:
        return _normal(shape, dtype, generator)
    finally:
        local.tape = tape


def _normal(shape: Shape, dtype: DType, generator: Generator | None) -> Tensor:
    source, wide = _source(generator)
    if wide:
        u, v = (_unit32(bits).double() for bits in source.bits(shape, 2))
        dtype = dtypes.float64
    elif dtype == dtypes.float64:
        a, b, c, d = source.bits(shape, 4)
        u, v = _unit64(a, c), _unit64(b, d)  # float32's words lead: the same numbers to its rounding
    else:
        u, v = map(_unit32, source.bits(shape, 2))
    return ((-2 * (1 - u).log()).sqrt() * (2 * math.pi * v).cos()).to(dtype)


@takes_keywords("torch")
def rand(
    *shape: Any,
    dtype: object = None,
    device: object = None,
    generator: Generator | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Uniform in [0, 1), of the given size.

    >>> import chainrule as cr
    >>> cr.rand(2, 3, generator=cr.Generator(0)).shape
    (2, 3)
    """
    on_cpu(device)
    result = uniform(sizes_of(*shape), dtypes.as_dtype(dtype or dtypes.float32), generator)
    return result.requires_grad_() if requires_grad else result


@takes_keywords("torch")
def randn(
    *shape: Any,
    dtype: object = None,
    device: object = None,
    generator: Generator | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal with mean 0 and standard deviation 1, of the given size."""
    on_cpu(device)
    result = normal(sizes_of(*shape), dtypes.as_dtype(dtype or dtypes.float32), generator)
    return result.requires_grad_() if requires_grad else result


@takes_keywords("torch")
def rand_like(
    x: Tensor, dtype: object = None, generator: Generator | None = None, *, device: object = None,
    requires_grad: bool = False, memory_format: object = None,
) -> Tensor:  # fmt: skip
    """Uniform in [0, 1), of the shape and dtype of `x`."""
    drawn = rand(x.shape, dtype=dtype or x.dtype, device=device, generator=generator)
    return drawn.requires_grad_() if requires_grad else drawn


@takes_keywords("torch")
def randn_like(
    x: Tensor, dtype: object = None, generator: Generator | None = None, *, device: object = None,
    requires_grad: bool = False, memory_format: object = None,
) -> Tensor:  # fmt: skip
    """Standard normal, of the shape and dtype of `x`."""
    drawn = randn(x.shape, dtype=dtype or x.dtype, device=device, generator=generator)
    return drawn.requires_grad_() if requires_grad else drawn


@takes_keywords("torch")
def randint(
    low: int,
    high: Any = None,
    size: Any = (),
    *,
    dtype: object = None,
    device: object = None,
    generator: Generator | None = None,
) -> Tensor:
    """Integers in [low, high), each equally likely (to within 2**-53); ``randint(high, size)`` starts at 0.

    Raises:
        ValueError: the range is empty.
        DtypeError: the dtype cannot hold all of it.

    >>> import chainrule as cr
    >>> bool((cr.randint(1, 7, (100,)) <= 6).all())
    True
    """
    on_cpu(device)
    if high is None or isinstance(high, (tuple, list)):
        low, high, size = 0, low, high if high is not None else size
    low, high = integer(low, "randint", "low"), integer(high, "randint", "high")
    if high <= low:
        raise ValueError(
            f"{graph.who('randint')}: high must exceed low, got low {low}, high {high}. Swap or widen the bounds."
        )
    wanted = dtypes.as_dtype(dtype or dtypes.int64)
    check_span(low, high, wanted, "randint")
    drawn = _fine(sizes_of(size), generator)
    result: Tensor = ((drawn * (high - low)).floor().long() + low).to(wanted)
    return result


@takes_keywords("torch")
def randperm(n: int, *, device: object = None, generator: Generator | None = None) -> Tensor:
    """A random order of 0, ..., n - 1 (eager only: sorting is not traced).

    >>> import chainrule as cr
    >>> sorted(cr.randperm(4).tolist())
    [0, 1, 2, 3]
    """
    on_cpu(device)
    n = integer(n, "randperm", "n")
    drawn = _fine((n,), generator)
    return tensor(np.argsort(drawn._node.value, kind="stable"), dtypes.int64) if n else arange(0)


@takes_keywords("torch")
def bernoulli(p: Tensor, *, generator: Generator | None = None) -> Tensor:
    """One with the probability that `p` gives for each element, else zero, in the dtype of `p`.

    >>> import chainrule as cr
    >>> cr.bernoulli(cr.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    p = given(p, "bernoulli", "p")
    value = p._node._value
    known = None if value is None else dtypes.numbers_of(value)
    if known is not None and not ((known >= 0) & (known <= 1)).all():
        raise DataError(
            f"{graph.who('bernoulli')}: the probabilities must be in [0, 1]. Clamp them, or use .sigmoid()."
        )
    return (uniform(p.shape, dtypes.computed(p.dtype), generator) < p).to(p.dtype)


Engine.uniform, Engine.normal = uniform, normal
