"""Modules that hold modules: Sequential, ModuleList, ModuleDict."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import index as as_index
from operator import itemgetter
from typing import Any, TypeVar, overload

from chainrule import graph
from chainrule.errors import IndexRangeError, SettingError
from chainrule.nn.module import Module, indent
from chainrule.nn.whole import pure, recorded

Chain = TypeVar("Chain", bound="_Numbered")


class _Numbered(Module):
    """A row of modules with the names "0", "1", ..."""

    def _key(self, index: int) -> str:
        size = len(self)
        position = as_index(index)
        if not -size <= position < size:
            raise IndexRangeError(f"{type(self).__name__} holds {size} modules; index {index} is out of range.")
        key: str = list(self._modules)[position % size]
        return key

    def _pick(self: Chain, chosen: slice) -> Chain:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self: Chain, index: slice) -> Chain: ...
    def __getitem__(self: Chain, index: int | slice) -> Module | Chain:
        if isinstance(index, slice):
            return self._pick(index)
        found: Module = self._modules[self._key(index)]
        return found

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        """Remove, then number the rest anew, as PyTorch does."""
        keys = list(self._modules)
        gone = {*(keys[index] if isinstance(index, slice) else [self._key(index)])}
        kept = [(key, module) for key, module in self._modules.items() if key not in gone]
        self._modules.clear()
        for position, (key, module) in enumerate(kept):
            self._modules[str(position) if key.isdigit() else key] = module

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(list(self._modules.values()))

    def append(self: Chain, module: Module) -> Chain:
        """Put a module at the end; returns itself."""
        self.register_module(str(len(self)), module)
        return self

    def extend(self: Chain, modules: Iterable[Module]) -> Chain:
        """Put several modules at the end; returns itself."""
        for module in modules:
            self.append(module)
        return self

    def pop(self, index: int) -> Module:
        """Take the module at position ``index`` out and return it; those behind it move down by one."""
        module = self[index]
        del self[index]
        return module

    def insert(self, index: int, module: Module) -> None:
        """Put a module before position ``index``; those behind it move up by one."""
        row = list(self)
        row.insert(index, module)
        self._modules.clear()
        for position, each in enumerate(row):
            self.register_module(str(position), each)


class Sequential(_Numbered):
    """Layers applied one after the other: ``y = layer_n(... layer_1(x))``.

    Args:
        modules: the layers in order, or one OrderedDict of name to layer.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> tuple(model(cr.zeros(5, 4)).shape)
        (5, 2)
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named: Iterable[tuple[str, Any]] = modules[0].items()
        else:
            named = ((str(position), module) for position, module in enumerate(modules))
        for name, module in named:
            if isinstance(module, (list, tuple)):
                raise SettingError(
                    f"Sequential: the layers are arguments of their own, got a {type(module).__name__} of {len(module)}. "
                    f"Write Sequential(*layers)."
                )
            if isinstance(module, str) or inspect.isfunction(module):
                shown = repr(module) if isinstance(module, str) else f"the function {module.__name__}"
                raise SettingError(
                    f"Sequential: layer {name} must be an nn.Module, got {shown}. An activation is a layer of its own, such as "
                    f"nn.ReLU(); a function is called in a forward of your own."
                )
            self.register_module(name, module)

    def _pick(self, chosen: slice) -> Any:
        return type(self)(OrderedDict(list(self._modules.items())[chosen]))

    def forward(self, x: Any) -> Any:
        """Pass ``x`` through every layer in order."""
        tape = graph.waiting()
        found = None if tape is None or tape.inside else recorded(tape, self, self._each, x)
        return self._each(x) if found is None else found

    def _each(self, x: Any) -> Any:
        for module in self._modules.values():
            x = module(x)
        return x


pure(Sequential)


class _Uncalled(Module):
    """A holder whose forward never runs: its layers carry its name in front of theirs."""

    def _child_name(self, name: str) -> str:
        return f"{self._layer_name}.{name}" if self._layer_name else name

    def _rename(self, name: str) -> None:
        known_as = {key: self._child_name(key) for key in self._modules}
        super()._rename(name)
        for key, child in self._modules.items():
            if child is not None and child._layer_name == known_as[key]:
                child._rename(self._child_name(key))


class ModuleList(_Uncalled, _Numbered):
    """A list of modules whose parameters are registered; index it and call the modules yourself.

    Example:
        >>> from chainrule import nn
        >>> len(nn.ModuleList([nn.Linear(2, 2) for _ in range(3)]))
        3
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def _pick(self, chosen: slice) -> Any:
        return type(self)(list(self)[chosen])

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)

    def _lines(self) -> list[str]:
        """As PyTorch's: neighbours that print alike are one line, ``(0-5): 6 x Linear(...)``."""
        lines = []
        for text, alike in groupby(enumerate(map(repr, self)), key=itemgetter(1)):
            numbers = [number for number, _ in alike]
            first, last, count = numbers[0], numbers[-1], len(numbers)
            lines.append(f"({first}-{last}): {count} x {indent(text)}" if count > 1 else f"({first}): {indent(text)}")
        return lines


class ModuleDict(_Uncalled):
    """A dictionary of modules whose parameters are registered.

    Example:
        >>> from chainrule import nn
        >>> list(nn.ModuleDict({"a": nn.ReLU(), "b": nn.Tanh()}).keys())
        ['a', 'b']
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules by name."""
        for name, module in modules.items() if isinstance(modules, Mapping) else modules:
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        found: Module | None = self._modules.get(name)
        if found is None:
            raise KeyError(f"ModuleDict has no module {name!r}. It has: {', '.join(self._modules) or 'none'}.")
        return found

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise SettingError(f"ModuleDict[{name!r}]: the value must be an nn.Module, got {type(module).__name__}.")
        self.register_module(name, module)

    def __delitem__(self, name: str) -> None:
        self[name]  # raises for an unknown name
        del self._modules[name]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, name: str) -> bool:
        return name in self._modules

    def keys(self) -> Iterable[str]:
        """The names."""
        return dict(self._modules).keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return dict(self._modules).values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names and modules."""
        return dict(self._modules).items()

    def pop(self, name: str) -> Module:
        """Take a module out and return it."""
        module = self[name]
        del self[name]
        return module

    def clear(self) -> None:
        """Take all modules out."""
        self._modules.clear()
