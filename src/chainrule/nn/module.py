"""Module: a tree of layers that knows its parameters, its buffers and its own name.

While ``forward`` runs, the name of the layer stands in the state of this thread, so every
node of the graph and every error can say which layer it belongs to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from chainrule.compiler.frontend.guards import ABSENT, Table, changed, joined, record_reads
from chainrule.dtypes import typed
from chainrule.errors import SettingError, TraceError
from chainrule.graph import _local, current_trace
from chainrule.lines import ours, user_line
from chainrule.names import Elsewhere, no_attribute, takes_keywords
from chainrule.nn import faults, hooks
from chainrule.nn import state as _state
from chainrule.nn.parameter import Parameter
from chainrule.tensor import Tensor
from chainrule.tensor.casting import destination
from chainrule.tensor.hooks import RemovableHandle

Self = TypeVar("Self", bound="Module")


class Later:
    """What rooms to the right of this one offer as methods of a module; `explain` fills it in."""

    verify: Callable[..., Any]


_TABLES = ("_parameters", "_buffers", "_modules")
_formulas: dict[
    Any, bool
] = {}  # whether they are chainrule's own: all of such a one is done on the line that called it
_MANY = 1024


def _is_own(formula: Any) -> bool:
    """Is a ``forward`` chainrule's own?"""
    if len(_formulas) >= _MANY:
        _formulas.clear()
    code = getattr(getattr(formula, "__wrapped__", formula), "__code__", None)
    found = _formulas[formula] = code is not None and ours(code)
    return found


@record_reads
class Module:
    """A layer, or a tree of layers: subclass it, assign layers in ``__init__``, write ``forward``.

    Assigning a Parameter or a Module to an attribute registers it; ``parameters()``, ``state_dict()``,
    ``train()`` and ``to()`` then reach everything below. Names and keys are PyTorch's.

    Example:
        >>> from chainrule import nn
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.hidden = nn.Linear(4, 3)
        ...     def forward(self, x):
        ...         return self.hidden(x).relu()
        >>> [name for name, _ in Net().named_parameters()]
        ['hidden.weight', 'hidden.bias']
    """

    training: bool
    trainable = Elsewhere("Module")  # Keras's: to freeze a layer
    _hooks: tuple[hooks.Hook, ...] = ()
    _compiled_as: type[Any]  # what `cr.compile` makes of one

    def __init__(self) -> None:
        put = super().__setattr__  # plain: the tables that __setattr__ consults do not stand yet
        put("training", True)
        put("_layer_name", None)
        put("_non_persistent", set())
        put("_hooks", ())  # its own, so that a trace which found none notices the first
        for table in _TABLES:
            put(table, Table())
        joined()  # it may have had others: nothing forbids a second call
        trace = current_trace()
        if trace is not None:
            trace.outside.made[id(self)] = self

    # ---------------------------------------------------------------- calling

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's formula; every subclass writes its own."""
        raise NotImplementedError(
            f"{type(self).__name__} has no forward. Define `def forward(self, x): ...` in it"
            f"{' (a container only holds layers: call them one by one)' if self._modules else ''}."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # The outermost layer goes by its class; those inside by the names their parents gave them.
        local, kind = _local, type(self)
        outer, line = before = local.layer, local.line
        formula = kind.forward
        own = _formulas.get(formula)
        if own is None:
            own = _is_own(formula)
        try:
            local.line = (line or user_line()) if own else None
            # At last: whatever is raised before leaves the layer around it.
            local.layer = f"{outer}.{self._layer_name or kind.__name__}" if outer else kind.__name__
            if self._hooks:
                return hooks.call(self, self._hooks, args, kwargs)
            return self.forward(*args, **kwargs)
        except RecursionError as error:
            if outer:  # the outermost layer knows them all
                raise
            local.layer, local.line = before
            raise faults.nested_too_deep(self, error) from None
        finally:
            local.layer, local.line = before

    # ---------------------------------------------------------------- registration

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under ``name``; None reserves the name (a Linear without bias)."""
        self._check_new_name(name, "parameter", self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise SettingError(
                f"{type(self).__name__}.register_parameter({name!r}): the value must be an "
                "nn.Parameter or None, "
                f"got {type(param).__name__}. Wrap it: nn.Parameter(value)."
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but is not learned; ``persistent=False`` keeps it out of state_dict."""
        self._check_new_name(name, "buffer", self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise SettingError(
                f"{type(self).__name__}.register_buffer({name!r}): the value must be a Tensor or None, "
                f"got {type(tensor).__name__}. Make one: cr.as_tensor(value)."
            )
        self._buffers[name] = tensor
        (self._non_persistent.discard if persistent else self._non_persistent.add)(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under ``name``."""
        self._check_new_name(name, "module", self._modules)
        if module is not None and not isinstance(module, Module):
            raise SettingError(
                f"{type(self).__name__}.register_module({name!r}): the value must be an nn.Module or None, "
                f"got {type(module).__name__}."
            )
        self._modules[name] = module
        if module is not None:
            module._learn_name(self._child_name(name))

    add_module = register_module

    def _check_new_name(self, name: str, kind: str, table: Mapping[str, Any]) -> None:
        if "_modules" not in self.__dict__:
            raise faults.not_initialised(self, kind, name)
        self._check_lasts(f"{kind} {name!r} was registered")
        if not isinstance(name, str) or not name or "." in name:
            raise SettingError(
                f"{type(self).__name__}: the name of a {kind} must be a non-empty string without '.', "
                f"got {name!r}. "
                f"Dots separate levels in the keys of state_dict."
            )
        if name not in table and self._has(name):
            raise SettingError(
                f"{type(self).__name__}: attribute {name!r} exists already and is no {kind}. Choose another name."
            )

    def _has(self, name: str) -> bool:
        """``hasattr``, without the error that says what there is instead, which takes longer than all else."""
        if name in self.__dict__ or any(name in self.__dict__[table] for table in _TABLES):
            return True
        kind = type(self)
        by_us = kind.__getattr__ is Module.__getattr__ and kind.__getattribute__ is object.__getattribute__
        return hasattr(self, name) if not by_us or hasattr(kind, name) else False

    def _check_lasts(self, what: str) -> None:
        """Refuse what Python would do to this module only when a function is traced."""
        trace = current_trace()
        if trace is not None and id(self) not in trace.outside.made:
            raise TraceError(
                f"cr.compile: {type(self).__name__}: {what} inside the function, which Python runs only when it is "
                f"traced. Build and change layers outside of it."
            )

    def _learn_name(self, name: str) -> None:
        """The first parent that registers a layer names it; a later slice or alias does not rename it."""
        if self._layer_name is None:
            self._rename(name)

    def _rename(self, name: str) -> None:
        object.__setattr__(self, "_layer_name", name)

    def _child_name(self, name: str) -> str:
        return name  # containers that are never called put their own name in front

    def __setattr__(self, name: str, value: Any) -> None:
        tables = self.__dict__
        if isinstance(value, (Parameter, Module)):
            kind = "parameter" if isinstance(value, Parameter) else "module"
            if "_modules" not in tables:
                raise faults.not_initialised(self, kind, name)
            table = f"_{kind}s"
            for other in (*_TABLES, "__dict__"):
                if other != table:
                    (tables if other == "__dict__" else tables[other]).pop(name, None)
            if isinstance(value, Parameter):
                self.register_parameter(name, value)
            else:
                self.register_module(name, value)
            return
        for table in _TABLES:
            if name in tables.get(table, ()):
                self._reassign(table, name, value)
                return
        trace = current_trace()
        if trace is not None:
            trace.outside.assign(self, tables, name, value)
        super().__setattr__(name, value)
        changed()

    def _reassign(self, table: str, name: str, value: Any) -> None:
        """Only None or a value of its own kind may take the place of something registered."""
        wanted = {"_parameters": "nn.Parameter", "_buffers": "Tensor", "_modules": "nn.Module"}[table]
        if value is not None and not (table == "_buffers" and isinstance(value, Tensor)):
            kind = table[1:-1]
            raise SettingError(
                f"{type(self).__name__}.{name} is a registered {kind}: assign a {wanted} or None, "
                f"got {type(value).__name__}. To change only its value, write "
                f"`with cr.no_grad(): module.{name}.copy_(value)`; to drop the {kind}, `del "
                f"module.{name}` first."
            )
        trace = current_trace()
        if trace is not None:
            trace.outside.assign(self, self.__dict__[table], name, value)
        self.__dict__[table][name] = value

    def __getattr__(self, name: str) -> Any:
        tables, trace = self.__dict__, _local.trace
        for table in _TABLES:
            found = tables.get(table)
            if found is not None and name in found:
                if trace is not None:
                    trace.outside.read_name(found, name, found[name])
                return found[name]
        if trace is not None and name[:2] != "__":
            trace.outside.read(self, name, ABSENT)
        if isinstance(getattr(type(self), name, None), property):  # it failed: its own error says why
            return object.__getattribute__(self, name)
        raise no_attribute("Module", self, name)

    def __delattr__(self, name: str) -> None:
        self._check_lasts(f"{name!r} was deleted")
        changed()
        for table in _TABLES:
            if name in self.__dict__[table]:
                del self.__dict__[table][name]
                self._non_persistent.discard(name)
                return
        super().__delattr__(name)

    def __dir__(self) -> list[str]:
        registered = [name for table in _TABLES for name in self.__dict__[table]]
        return sorted({*super().__dir__(), *(n for n in registered if n.isidentifier())})

    # ---------------------------------------------------------------- walking

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below, parents first, with their dotted names."""
        memo = set() if memo is None else memo
        stack: list[tuple[str, Module]] = [
            (prefix, self)
        ]  # as deep as the model, which may be deeper than Python recurses
        while stack:
            path, module = stack.pop()
            if module in memo:
                continue
            if remove_duplicate:
                memo.add(module)
            yield path, module
            below = module._modules
            if below:  # most modules are leaves
                children = [(f"{path}.{name}" if path else name, c) for name, c in below.items() if c is not None]
                stack.extend(reversed(children))

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """This module and all below, each once (or as often as it stands there)."""
        return (module for _, module in self.named_modules(remove_duplicate=remove_duplicate))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names, each once."""
        seen: set[Module] = set()
        for name, child in self._modules.items():
            if child is not None and child not in seen:
                seen.add(child)
                yield name, child

    def children(self) -> Iterator[Module]:
        """The direct submodules, each once."""
        return (child for _, child in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Every parameter with its dotted name; one shared by two layers comes once, under its first name."""
        yield from self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Every parameter once: what an optimizer takes."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Every buffer with its dotted name."""
        yield from self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Every buffer once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named_members(self, table: str, prefix: str, recurse: bool, once: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        levels = self.named_modules(prefix=prefix, remove_duplicate=once) if recurse else [(prefix, self)]
        for path, module in levels:
            for name, member in getattr(module, table).items():
                if member is None or (once and id(member) in seen):
                    continue
                seen.add(id(member))
                yield (f"{path}.{name}" if path else name), member

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path, such as ``"layers.2"``; ``""`` is this module."""
        module: Module = self
        walked: list[str] = []
        for name in target.split(".") if target else []:
            child = module._modules.get(name)
            if child is None:
                raise faults.missing(module, "submodule", name, walked, module._modules)
            module, walked = child, [*walked, name]
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path, such as ``"layers.2.weight"``."""
        found: Parameter = self._get_member("_parameters", "parameter", target)
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        found: Tensor = self._get_member("_buffers", "buffer", target)
        return found

    def _get_member(self, table: str, kind: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        members = getattr(module, table)
        if members.get(name) is None:
            raise faults.missing(module, kind, name, path.split(".") if path else [], members)
        return members[name]

    # ---------------------------------------------------------------- saving and loading

    @takes_keywords("Module")
    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> OrderedDict[str, Tensor]:
        """Every parameter and persistent buffer by dotted name, in PyTorch's order and with its keys.

        The tensors are views, as PyTorch's are: they show what later steps make of the parameters. For a snapshot,
        copy them (``copy.deepcopy(model.state_dict())``).

        Args:
            prefix: put before every key.
            keep_vars: return the tensors themselves, with their history, in place of detached views.
        """
        return OrderedDict(
            (prefix + name, tensor if keep_vars else tensor.detach()) for name, tensor in self._saved().items()
        )

    @takes_keywords("Module")
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> _state.IncompatibleKeys:
        """Copy the values of ``state_dict`` into this module; nothing is copied unless all of it fits.

        Args:
            state_dict: dotted name to Tensor, NumPy array or (CPU) PyTorch tensor.
            strict: every key must be there and no other; False loads what matches by name.

        Returns:
            The missing and the unexpected keys (both empty when strict).

        Raises:
            StateDictError: listing missing keys, unexpected keys and every mismatch of shapes.
        """
        return _state.load(type(self).__name__, self._saved(), state_dict, strict)

    def _saved(self) -> dict[str, Tensor]:
        """Parameters, then persistent buffers, level by level; a shared tensor stands under each of its names."""
        found: dict[str, Tensor] = {}
        for path, level in self.named_modules(remove_duplicate=False):
            head = f"{path}." if path else ""
            found.update((head + name, p) for name, p in level._parameters.items() if p is not None)
            for name, buffer in level._buffers.items():
                if buffer is not None and name not in level._non_persistent:
                    found[head + name] = buffer
        return found

    # ---------------------------------------------------------------- changing everything below

    def train(self: Self, mode: bool = True) -> Self:
        """Switch this module and all below to training (dropout drops); returns itself."""
        if not isinstance(mode, bool):
            raise SettingError(f"train(mode): mode must be True or False, got {mode!r}.")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Switch this module and all below to evaluation; returns itself."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze every parameter; returns itself."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget every gradient (or fill it with zeros)."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad = None if set_to_none else parameter.grad.detach() * 0

    def apply(self: Self, fn: Callable[[Module], object]) -> Self:
        """Call ``fn`` on every module, children before parents; returns itself."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(self: Self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> Self:
        """Turn every floating parameter and buffer into ``dtype``; returns itself.

        Args:
            args: a dtype, a tensor whose dtype to take, or a device (there is one, the CPU), as in PyTorch.
            dtype: the new dtype, a floating one.
            device: the CPU.
            non_blocking: accepted, and without effect.

        Raises:
            SettingError: another device.
        """
        _state.move([*self.parameters(), *self.buffers()], destination(args, dtype, device))
        return self

    def float(self: Self) -> Self:
        """Every floating parameter and buffer as float32; returns itself."""
        return self.to("float32")

    def bfloat16(self: Self) -> Self:
        """Every floating parameter and buffer as bfloat16, in half the memory; what computes with them does so in float32."""
        return self.to("bfloat16")

    def cpu(self: Self) -> Self:
        """Itself: there is no other device."""
        return self

    def cuda(self: Self, device: object = None) -> Self:
        """There is no CUDA here: it raises, as PyTorch's does on a machine without one.

        Raises:
            SettingError: always.
        """
        return self.to(device="cuda" if device is None else device)

    def type(self: Self, dst_type: object) -> Self:
        """Every floating parameter and buffer in this dtype, or PyTorch's older name of one; returns itself."""
        return self.to(typed(dst_type))

    def double(self: Self) -> Self:
        """Every floating parameter and buffer as float64; returns itself."""
        return self.to("float64")

    # ---------------------------------------------------------------- hooks

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Have every call begin with ``hook(module, args)``; what it returns, if not None, takes the place of the arguments.

        Args:
            hook: with `with_kwargs` it gets ``(module, args, kwargs)`` and returns both, or None.
            prepend: before those that are there.
            with_kwargs: see `hook`.

        Returns:
            A handle with ``remove()``.
        """
        return self._hook("before", hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Have every call end with ``hook(module, args, output)``; what it returns, if not None, takes the output's place.

        Args:
            hook: with `with_kwargs` it gets ``(module, args, kwargs, output)``.
            prepend: before those that are there.
            with_kwargs: see `hook`.
            always_call: also where ``forward`` raised, with None as the output.

        Returns:
            A handle with ``remove()``.

        Example:
            >>> import chainrule as cr
            >>> from chainrule import nn
            >>> layer = nn.Linear(2, 3)
            >>> handle = layer.register_forward_hook(lambda module, args, output: print(output.shape))
            >>> _ = layer(cr.ones(1, 2))
            (1, 3)
        """
        return self._hook("always" if always_call else "after", hook, prepend, with_kwargs)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Have backward call ``hook(module, grad_input, grad_output)`` when it has the gradients of a call's arguments.

        Both are tuples, of a gradient for each tensor among the arguments and in the output, None for one that needs none.
        A tuple that it returns takes the place of ``grad_input``.
        """
        return self._hook("backward", hook, prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Have backward call ``hook(module, grad_output)`` before it comes to this module; a tuple that it returns goes on."""
        return self._hook("backward before", hook, prepend)

    def _hook(self, kind: str, hook: Callable[..., Any], prepend: bool, with_kwargs: bool = False) -> RemovableHandle:
        made = hooks.Hook(kind, hook, with_kwargs)
        self._hooks = (made, *self._hooks) if prepend else (*self._hooks, made)

        def remove() -> None:
            self._hooks = tuple(other for other in self._hooks if other is not made)

        return RemovableHandle(remove)

    # ---------------------------------------------------------------- verifying

    def _held(self) -> dict[str, Any]:
        """Elements of its parameters that get no gradient whatever depends on them: by name, their index."""
        return {}

    def verify(self, x: Any, y: Any, loss: Callable[..., Tensor] | None = None, rows: int = 32) -> Any:
        """Is the gradient of ``loss(self(x), y)`` right? Every rule, the whole, its compiled form, on these rows.

        The formula, the arguments and what is raised: `chainrule.explain.verify.verify`.

        Returns:
            A `Verification`: true if nothing fails, printable, ``as_dict()`` for JSON.

        Example:
            >>> import chainrule as cr
            >>> from chainrule import nn
            >>> found = nn.Linear(3, 2).verify(cr.rand(4, 3), [0, 1, 1, 0])
            >>> bool(found), len(found.failing)
            (True, 0)
        """
        return Later.verify(self, x, y, loss, rows)

    # ---------------------------------------------------------------- printing

    def extra_repr(self) -> str:
        """What stands between the parentheses of the repr, such as ``in_features=4, out_features=3``."""
        return ""

    def __repr__(self) -> str:
        extra, name = self.extra_repr(), type(self).__name__
        try:
            children = self._lines()
        except RecursionError:  # deeper than Python can go
            return f"{name}(...)"
        if not children:
            return f"{name}({extra})"
        lines = [*extra.split("\n"), *children] if extra else children
        return f"{name}(\n  " + "\n  ".join(lines) + "\n)"

    def _lines(self) -> list[str]:
        """What is printed of each child."""
        return [f"({key}): {indent(repr(child))}" for key, child in self._modules.items()]


def indent(text: str) -> str:
    """The text with two spaces before each line but the first."""
    first, *rest = text.split("\n")
    return "\n".join([first, *(f"  {line}" for line in rest)])
