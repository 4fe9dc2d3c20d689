"""What `cr.compile` makes of a module: a module with the same members, whose calls are compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from chainrule.compiler.compile import Compiled
from chainrule.nn.module import Module

_OWN = ("_function", "_tuned", "_machine", "_variants", "_latest", "_claim")


class CompiledModule(Compiled, Module):
    """A compiled module. All but the call is the module's own: parameters, keys, mode, and what is assigned.

    >>> import chainrule as cr
    >>> from chainrule import nn
    >>> model = cr.compile(nn.Sequential(nn.Linear(3, 1)))
    >>> list(model.state_dict()), isinstance(model, nn.Module)
    (['0.weight', '0.bias'], True)
    """

    _function: Any

    def __init__(self, function: Callable[..., Any], tune: bool = False) -> None:
        Compiled.__init__(self, function, tune)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's."""
        return self._function.forward(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN or name[:2] == "__":
            object.__setattr__(self, name, value)
        else:
            setattr(self._function, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._function, name)

    def verify(self, *args: Any, **kwargs: Any) -> Any:
        """Of the module: a derivation walks its operations, which a compiled call has none of."""
        return self._function.verify(*args, **kwargs)

    def register_parameter(self, name: str, param: Any) -> None:
        """Add a parameter to the module."""
        self._function.register_parameter(name, param)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add a buffer to the module."""
        self._function.register_buffer(name, tensor, persistent)

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a submodule to the module."""
        self._function.register_module(name, module)

    add_module = register_module

    def _rename(self, name: str) -> None:
        self._function._rename(name)

    def _child_name(self, name: str) -> str:
        found: str = self._function._child_name(name)
        return found

    def __getitem__(self, key: Any) -> Any:
        return self._function[key]

    def __len__(self) -> int:
        return len(self._function)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._function)

    def __bool__(self) -> bool:
        return True

    def __dir__(self) -> list[str]:
        return dir(self._function)

    def __repr__(self) -> str:
        return repr(self._function)


def bare(model: Module) -> Module:
    """The module itself, or the one that a compiled module was made of."""
    inner: Module = model._function if isinstance(model, CompiledModule) else model
    return inner


Module._compiled_as = CompiledModule
