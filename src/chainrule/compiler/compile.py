"""``cr.compile``: a Python function as one native call.

A call finds the program for its signature (shapes, dtypes, Python arguments, guards), or traces one; puts
the addresses of all buffers into a table; runs; and hands out the results. State lives in buffers that the
program updates in place. Whoever reads such a state from Python gets an array that no later step touches:
the next step then continues in a fresh copy. (A step that another thread runs meanwhile is no later one: it writes
there until it is over. Nobody waits for that, since the reader would have to know who runs, and every call to say so.)
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, update_wrapper
from pathlib import Path
from types import MethodType
from typing import Any, overload

from chainrule import graph
from chainrule.compiler.frontend import pytree
from chainrule.compiler.frontend.export import Export
from chainrule.compiler.frontend.left import check_none_left
from chainrule.compiler.frontend.loop import Loop
from chainrule.compiler.frontend.specialization import Specialization
from chainrule.compiler.frontend.watch import Watched
from chainrule.compiler.runtime import draws, tuning
from chainrule.compiler.runtime.locks import Claim, Locks
from chainrule.errors import SettingError, ShapeError, TraceError
from chainrule.files.document import short
from chainrule.files.writing import shown, text_of, write_whole
from chainrule.graph import Node
from chainrule.names import takes_keywords
from chainrule.ops.random import draw
from chainrule.tensor import Tensor
from chainrule.tensor.core import Handle

draw.native = draws.draw  # what is drawn outside of every program is drawn natively, too

MANY_TRACES = 16
STATES = 4  # of what a function itself changes of Python, for which it is traced: a flag that goes to and fro has two


@overload
def compile(
    function: Callable[..., Any], *, tune: bool = False, fullgraph: bool = False, dynamic: bool | None = None,
    backend: Any = None, mode: str | None = None, options: Any = None, disable: bool = False,
) -> Compiled: ...  # fmt: skip


@overload
def compile(
    function: None = None, *, tune: bool = False, fullgraph: bool = False, dynamic: bool | None = None,
    backend: Any = None, mode: str | None = None, options: Any = None, disable: bool = False,
) -> Callable[[Callable[..., Any]], Compiled]: ...  # fmt: skip


@takes_keywords("torch")
def compile(
    function: Callable[..., Any] | None = None, *, tune: bool = False, fullgraph: bool = False, dynamic: bool | None = None,
    backend: Any = None, mode: str | None = None, options: Any = None, disable: bool = False,
) -> Any:  # fmt: skip
    """`function` traced once for each signature, then run as one native call.

    Inside, everything works as in eager mode: forward passes, ``backward()``, optimizer steps. Every tensor
    that existed before and is rebound inside (a weight, a moment, a running mean), every ``grad``, and every
    tensor, flag, text or None that is assigned to an attribute of a module or object, to a global or to a
    variable of an enclosing function, is state and is written back at every call (without its history: no
    gradient flows from one call into another); so is a number that does not depend on what it was. A changed
    shape, dtype or Python argument traces anew, and so does whatever the function, or code that it calls,
    reads of Python: modules, settings of optimizers, variables of enclosing functions, globals, builtins, defaults,
    the code of functions, attributes of objects and classes, variables of the process, and what is in lists, dicts and
    the like and in arrays of up to 4096 elements. Python code that needs the value of a tensor (``float(t)``,
    ``if t:``) raises `TraceError`; nothing falls back to eager in silence.

    Results are tensors of their own. Where PyTorch gives the very tensor that was passed, or a view of it, a compiled
    function gives a copy: what is written to one of them later is not seen in the other. Write inside, or take the
    view of what the function was passed outside.

    What Python does beside, it does only when the function is traced:

    - ``print`` and ``list.append``.
    - Other changes to lists, dicts, sets and the like that it reads are made again by each call that finds them as the trace
      found them; others are traced anew: so a cache that the first call fills is found by the second. What comes to no
      rest, as a counter in a dict, is refused after a few.
    - Files, clocks and iterators are read once, with a warning.
    - Counters (``o.n += 1``, also in a variable, an item, an array) are refused: keep them in a tensor,
      ``o.n = cr.tensor(0)``. So are optimizers made inside, and tensors left where no call would put others (by ``setattr`` or
      ``globals()``, in a cache, in an array of objects).
    - Random numbers of `random`, ``numpy.random`` and the system are drawn once, with a warning. ``cr.rand`` draws anew.
    - What is in larger arrays and lists, in objects in lists of more than 64, in those that only a call gives (a
      registry), and in what comes after the 500 nearest objects and functions is read once.
    - Learning rates and schedules are read at every call, and refuse to be changed inside.

    Any thread may call a compiled function. While one traces, the others wait to trace, to call, or to read the tensors
    it uses, for up to 30 s; then they get a `BusyError`. So do not wait inside for another thread that does.

    Read what a function changes on the thread that calls it, or between calls: an array (``w.numpy()``) or a copy that is
    taken while another thread runs the function may hold values of before and after, as PyTorch's may, and the array
    changes until that call is over. No later call changes it.

    Compiled code takes numbers too small to be normal (below 1.2e-38 in float32, 2.2e-308 in float64) for 0, and gives 0
    where a result would be one, since CPUs take many times as long for them. Eager mode keeps them.

    What neither a result nor state needs is not computed: an index out of range there raises nothing.

    The bits of a sum or a product depend on values and shapes alone, not on layout, threads, CPU or what else is compiled
    with it; those of a row of ``x @ w.T`` not on the rows beside it either. (A product of one column is added up in 16
    lanes, so where a batch lies along columns, ``w @ x.T``, a batch of one may differ from a larger one in the last bits.)

    Args:
        function: takes tensors (or arrays, numbers, nested lists and dicts of them); returns tensors, or
            nested tuples, lists and dicts of them. Without it, a decorator: ``@cr.compile(tune=True)``.
        tune: time the likely tiles of each larger matrix product on this machine when its shape is first met, and
            keep the fastest: some tenths of a second each, once, since the choice is remembered beside the machine
            code. No result changes by a bit.
        mode: as in PyTorch; ``"max-autotune"`` is ``tune=True``, the others mean nothing here.
        fullgraph, dynamic, backend, options: taken so that a script for PyTorch runs. Here the graph is always whole,
            every shape has a program of its own, and there is one backend.
        disable: give the function itself.

    Returns:
        The compiled function; for a module, a module with the same parameters, members and keys.

    Raises:
        SettingError: `function` cannot be called, `tune` is no bool, or there is no such mode.

    >>> import chainrule as cr
    >>> w = cr.tensor(1.0)
    >>> @cr.compile
    ... def halve(x):
    ...     w.mul_(0.5)
    ...     return x * w
    >>> halve(cr.tensor([2.0, 4.0])), halve(cr.tensor([2.0, 4.0])), w
    (tensor([1., 2.]), tensor([0.5000, 1.0000]), tensor(0.2500))
    >>> x = cr.zeros(3)
    >>> first = cr.compile(lambda x: x[:2])(x)
    >>> first.add_(1), x
    (tensor([1., 1.]), tensor([0., 0., 0.]))
    >>> small = cr.tensor([1e-310, 1e-300], dtype=cr.float64)
    >>> small * 2 > 0, cr.compile(lambda x: x * 2)(small) > 0
    (tensor([True, True]), tensor([False,  True]))
    """
    if not isinstance(tune, bool):
        raise SettingError(f"cr.compile: tune must be True or False, got {tune!r}.")
    if mode not in _MODES:
        raise SettingError(f"cr.compile: mode must be one of {', '.join(map(repr, _MODES))}, got {mode!r}.")
    tune = tune or mode in ("max-autotune", "max-autotune-no-cudagraphs")
    if function is None:
        return partial(compile, tune=tune, disable=disable)
    if not callable(function):
        raise SettingError(
            f"cr.compile: the first argument must be a function, a method or a module, got {type(function).__name__}. "
            f"Compile what computes it: cr.compile(f), or @cr.compile above its definition."
        )
    if disable:
        return function
    kind: type[Compiled] = getattr(type(function), "_compiled_as", Compiled)
    return kind(function, tune)


_MODES = (None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class Compiled:
    """A function that `compile` made; call it like the function."""

    def __init__(self, function: Callable[..., Any], tune: bool = False) -> None:
        update_wrapper(self, function, updated=())  # not __dict__: a module keeps its parameters to itself
        self._function, self._tuned = function, tune
        self._machine = partial(tuning.machine, tune)
        self._variants: dict[Hashable, list[Specialization]] = {}
        self._latest: Specialization | None = None
        self._claim = Claim()  # its guard: for a call that traces nothing
        _all.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if graph._local.trace is not None:  # inside another compiled function: part of it
            return self._function(*args, **kwargs)
        claim = self._claim
        with claim.guard:
            if claim.owner is None:
                latest = self._latest
                if latest is not None and not kwargs and latest.takes(args) and latest.holds(args):
                    return latest.call(args)
                leaves: list[Handle] = []
                description = pytree.flatten((args, kwargs), leaves)
                known = self._known(_key(description, leaves, [leaf._node for leaf in leaves]), leaves)
                if known is not None:
                    return known.call(leaves)
        return claim.run(self._first, args, kwargs)

    def _first(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that traces, as a rule: the user's code runs, so none may wait for it in a lock."""
        leaves: list[Handle] = []
        description = pytree.flatten((args, kwargs), leaves)
        return self._variant(description, leaves, [leaf._node for leaf in leaves]).call(leaves)

    def again(self, *args: Any) -> Any:
        """What a call gives, where the latest program takes these tensors and nothing that it read of Python has changed.

        None where a call would have to look for another program, or to trace: for a caller that has something to put right
        before that.
        """
        claim, latest = self._claim, self._latest
        with claim.guard:
            if claim.owner is not None or latest is None or graph._local.trace is not None:
                return None
            return latest.call(args) if latest.takes(args) and latest.holds(args) else None

    def __getattr__(self, name: str) -> Any:
        """A compiled module still has its parameters, its state_dict and its mode."""
        if name == "_function":
            raise AttributeError(name)
        return getattr(self._function, name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A compiled method is bound like any other."""
        return self if instance is None else MethodType(self, instance)

    def __reduce__(self) -> Any:
        """Without its programs, which are made again where it is unpickled; a decorated function by its name."""
        found: Any = sys.modules.get(getattr(self, "__module__", ""))
        name: str = getattr(self, "__qualname__", "")
        for part in name.split("."):
            found = getattr(found, part, None)
        return name if found is self else (type(self), (self._function, self._tuned))

    def loop(self, *args: Any, **kwargs: Any) -> Any:
        """Run one step for each entry along the first axis of every tensor argument, in one native call.

        Returns what the function returns, each tensor stacked along a new first axis.

        >>> import chainrule as cr
        >>> total = cr.tensor(0.0)
        >>> @cr.compile
        ... def add(x):
        ...     total.add_(x)
        ...     return total * 1
        >>> add.loop(cr.tensor([1.0, 2.0, 3.0]))
        tensor([1., 3., 6.])
        """
        return self._claim.run(self._loop, args, kwargs)

    def _loop(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        loop = self.begin(*args, **kwargs)
        loop.advance(loop.left)
        return loop.end()

    def begin(self, *args: Any, **kwargs: Any) -> Loop:
        """A `loop` that stands before its first step and is moved on by its caller, some steps at a time.

        Between its steps another one over the same state may move on. Nothing else may touch that state until
        the last of them has ended, and no function may be called or begun that has one under way already.

        >>> import chainrule as cr
        >>> total = cr.tensor(0.0)
        >>> @cr.compile
        ... def add(x):
        ...     total.add_(x.sum())
        ...     return total * 1
        >>> ones, pairs = add.begin(cr.ones(4)), add.begin(cr.ones(2, 2))
        >>> ones.advance(3); pairs.advance(2); ones.advance(1)
        >>> ones.end(), pairs.end()
        (tensor([1., 2., 3., 8.]), tensor([5., 7.]))
        """
        leaves: list[Handle] = []
        description = pytree.flatten((args, kwargs), leaves)
        steps = _steps(leaves)
        first = [Node(graph.LEAF, (), {}, graph.Type(x.shape[1:], x.dtype)) for x in leaves]
        again = partial(self._claim.run, self._in_mode, graph.is_grad_enabled(), description, leaves, first)
        return self._claim.run(self._begun, description, leaves, first, steps, again)

    def _begun(
        self, description: Hashable, leaves: list[Handle], first: list[Node], steps: int, again: Callable[[], Any]
    ) -> Loop:
        return Loop(self._variant(description, leaves, first), leaves, steps, again)

    def _in_mode(self, enabled: bool, description: Hashable, leaves: list[Handle], first: list[Node]) -> Specialization:
        """The program of a later step of a loop that began in this mode of gradients."""
        with graph.grad_mode(enabled):
            return self._variant(description, leaves, first)

    def watch(self, *args: Any, **kwargs: Any) -> Watched:
        """Run one call as usual and give every value on the way, instead of what the function returns."""
        leaves: list[Handle] = []
        description = pytree.flatten((args, kwargs), leaves)
        nodes = [leaf._node for leaf in leaves]
        return self._claim.run(lambda: self._variant(description, leaves, nodes).watch(leaves))

    def prepare_watch(self) -> None:
        """Compile what `watch` needs for the latest program, so that it need not wait; from any thread."""
        if self._latest is not None:
            with Locks.making:
                self._latest.prepare_watch()

    def show(self, stage: str = "graph", cpu: str | None = None) -> str:
        """The latest program at a stage: "trace", "graph", "kernels", "loops", "memory", "llvm" or "asm".

        "loops" are the kernels with all that was decided about them: vectors, the order of sums, what threads share.
        They, "llvm" and "asm" are for this machine, or for the one that `cpu` names (see `compiler.runtime.native.CPUS`).
        """
        if self._latest is None:
            raise TraceError("show: nothing has been compiled yet. Call the function once first.")
        return self._latest.program.show(stage, cpu)

    def export(
        self,
        path: str | os.PathLike[str],
        cpu: str | None = None,
        name: str = "step",
        names: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write the latest program as an object file for a linker, and beside it a C header with what is in it.

        The object holds one function, ``int32_t NAME(...)`` over pointers to arguments and results, and as globals what the
        function keeps (weights, moments, random numbers), with the values of now. It needs nothing of Python or of this
        library: no more than ``memcpy``, and on CPUs without float64 the compiler's own arithmetic (``-lgcc -lm``).

        Its results and its state are bit for bit those of the compiled function on one machine and another, with one
        exception: where the CPU cannot (RISC-V, WebAssembly, float64 on the Cortex-M4), numbers too small to be normal are
        not taken for 0 as they are here.

        Args:
            path: of the object; the header has the same name with ``.h`` at its end.
            cpu: "riscv64", "neoverse-n1" (AArch64), "cortex-m4", "wasm32" or another of `compiler.runtime.native.CPUS`;
                None: this one.
            name: of the function, with which the names of its globals begin.
            names: of tensors, for those of them that are state: ``dict(model.named_parameters())``.

        Raises:
            TraceError: nothing has been compiled yet, or more than one signature; or a call could not follow another in C.
            SettingError: `name` is no name in C, or `names` no dict of tensors.
            UnknownNameError: there is no such CPU.
            UnwritableFileError: a file could not be written.

        >>> import chainrule as cr, pathlib, tempfile
        >>> total = cr.tensor(0.0)
        >>> @cr.compile
        ... def add(x):
        ...     total.add_(x.sum())
        ...     return total * 1
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "add.o"
        >>> add(cr.ones(4)), add.export(path, cpu="riscv64", name="add", names={"total": total})
        (tensor(4.), None)
        >>> for line in path.with_suffix(".h").read_text().splitlines():
        ...     if "float" in line:
        ...         print(line)
        extern float add_total[1]; /* float32 (): total */
            const float arg0[4] /* float32 (4,) */,
            float out0[1] /* float32 () */);
        """
        found = names if names is not None else {}
        if not isinstance(found, Mapping) or not all(isinstance(tensor, Handle) for tensor in found.values()):
            raise SettingError(
                f"export: names must be a dict of tensors by their names, got {short(names)}. Pass "
                f"dict(model.named_parameters()), for example."
            )
        file = Path(text_of(path))
        if file.suffix == ".h":
            raise SettingError(
                f"export: {shown(path)} is the name of the header, which is written beside the object. Name the object: "
                f"'step.o', for example."
            )
        made = self._claim.run(self._export, name, cpu, found)
        with Locks.making:
            data = made.object
        write_whole(file, data)
        write_whole(file.with_suffix(".h"), made.header.encode())

    def _export(self, name: str, cpu: str | None, names: Mapping[str, Tensor]) -> Export:
        if self._latest is None:
            raise TraceError("export: nothing has been compiled yet. Call the function once first.")
        if len(self._variants) > 1:
            raise TraceError(
                f"export: the function was compiled for {len(self._variants)} signatures (shapes, dtypes and Python "
                f"arguments), and an object holds one. Compile it anew, cr.compile(f), and call it with the one that is meant."
            )
        return Export(self._latest, name, cpu, names)

    def _variant(self, description: Hashable, leaves: list[Handle], nodes: list[Node]) -> Specialization:
        """The program for these arguments, traced now if there is none; the caller has the claim."""
        key = _key(description, leaves, nodes)
        known = self._known(key, leaves)
        if known is not None:
            return known
        with _no_collection():
            variant = Locks.turn.run(Specialization, self._function, description, leaves, nodes, self._machine())
        check_none_left(variant.trace)
        variant.meet(leaves)
        self._keep(key, variant)
        variant.kin, self._latest = self._latest, variant
        return variant

    def _known(self, key: Hashable, leaves: list[Handle]) -> Specialization | None:
        variants = self._variants.get(key, [])
        for variant in variants:
            if variant.holds(leaves):
                if variant is not variants[0]:  # the next call most often finds what this one found
                    variants.remove(variant)
                    variants.insert(0, variant)
                if variant is not self._latest:
                    variant.kin, self._latest = self._latest, variant
                return variant
        return None

    def _keep(self, key: Hashable, variant: Specialization) -> None:
        """For calls to come.

        Raises:
            TraceError: what the function itself changes of Python comes to no rest.
        """
        variants = self._variants.setdefault(key, [])
        if variant.altered and sum(bool(other.altered) for other in variants) == STATES:
            for each in variant.altered:
                each.put(each.before)
            raise TraceError(
                f"cr.compile: {variant.altered[0].label} is changed inside the function and comes to no rest: programs were made for "
                f"{STATES} states of it. Keep it in a tensor that exists outside, or change it outside."
            )
        variants.append(variant)
        self._count_traces()

    def _count_traces(self) -> None:
        count = sum(map(len, self._variants.values()))
        if count == MANY_TRACES:
            warnings.warn(
                f"{getattr(self, '__name__', 'a compiled function')} has been traced {count} times, once for every new "
                f"combination of shapes, dtypes and Python arguments. Pass numbers that change as tensors "
                f"(cr.tensor(x)), and keep batch sizes to a few.",
                stacklevel=6,
            )


def _key(description: Hashable, leaves: list[Handle], nodes: list[Node]) -> Hashable:
    """What tells the arguments of one program from those of another."""
    types = tuple([(n.shape, n.dtype, leaf.requires_grad) for n, leaf in zip(nodes, leaves, strict=True)])
    first: dict[int, int] = {}
    same = tuple([first.setdefault(id(leaf), j) for j, leaf in enumerate(leaves)])
    return (description, types, same, graph.is_grad_enabled())


_all: weakref.WeakSet[Compiled] = weakref.WeakSet()


def _unlock() -> None:
    """In a forked child: the thread that held a lock is not here."""
    for compiled in list(_all):
        compiled._claim = compiled._claim.left_to(threading.get_ident())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@contextmanager
def _no_collection() -> Iterator[None]:
    """No search for garbage inside: a compilation makes many objects, which all stay, and a tenth of its time went there."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _steps(leaves: list[Handle]) -> int:
    if len(leaves) == 1 and leaves[0].shape:
        return leaves[0].shape[0]
    lengths = {shape[0] if (shape := leaf.shape) else None for leaf in leaves}
    if len(lengths) != 1 or None in lengths:
        raise ShapeError(
            f"loop: every tensor argument needs a first axis of one common length (the steps), got shapes "
            f"{[leaf.shape for leaf in leaves]}. Stack the arguments of all steps along a new first axis."
        )
    return next(iter(lengths)) or 0
