"""Modules that hold parameters: ParameterList, ParameterDict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import index as as_index
from typing import Any, TypeVar, overload

from chainrule.errors import IndexRangeError
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter

List = TypeVar("List", bound="ParameterList")


class _Holder(Module):
    def extra_repr(self) -> str:
        return "\n".join(
            f"({name}): Parameter containing: [{p.dtype.name} of size {'x'.join(map(str, p.shape))}]"
            for name, p in self._parameters.items()
            if p is not None
        )

    def __repr__(self) -> str:
        lines = [f"    {line}" for line in self.extra_repr().split("\n") if line]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"]) if lines else f"{type(self).__name__}()"


def _learned(value: Any) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(value)


class ParameterList(_Holder):
    """A list of parameters, registered with the names "0", "1", ...; a tensor becomes a parameter.

    Args:
        values: the parameters, or what becomes one.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> weights = nn.ParameterList([cr.zeros(2), cr.ones(3)])
        >>> [name for name, _ in weights.named_parameters()], len(weights)
        (['0', '1'], 2)

    Where we deviate: everything that it holds is a parameter (PyTorch's keeps other values, too).
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self.extend(values or ())

    def _key(self, index: int) -> str:
        size, position = len(self), as_index(index)
        if not -size <= position < size:
            raise IndexRangeError(f"ParameterList holds {size} parameters; index {index} is out of range.")
        return str(position % size)

    @overload
    def __getitem__(self, index: int) -> Parameter: ...
    @overload
    def __getitem__(self: List, index: slice) -> List: ...
    def __getitem__(self: List, index: int | slice) -> Parameter | List:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        found: Parameter = getattr(self, self._key(index))
        return found

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, self._key(index), _learned(value))

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter([self[i] for i in range(len(self))])

    def __iadd__(self: List, values: Iterable[Any]) -> List:
        return self.extend(values)

    def append(self: List, value: Any) -> List:
        """Put a parameter at the end; returns itself."""
        self.register_parameter(str(len(self)), _learned(value))
        return self

    def extend(self: List, values: Iterable[Any]) -> List:
        """Put several parameters at the end; returns itself."""
        for value in values:
            self.append(value)
        return self


class ParameterDict(_Holder):
    """A dictionary of parameters, registered with their names; a tensor becomes a parameter.

    Args:
        parameters: names and parameters, or what becomes one.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> weights = nn.ParameterDict({"a": cr.zeros(2)})
        >>> weights["b"] = cr.ones(3)
        >>> list(weights.keys())
        ['a', 'b']

    Where we deviate: everything that it holds is a parameter (PyTorch's keeps other values, too).
    """

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        super().__init__()
        self.update(parameters or {})

    def update(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add or replace parameters by name."""
        for name, value in parameters.items() if isinstance(parameters, Mapping) else parameters:
            self[name] = value

    def __getitem__(self, name: str) -> Parameter:
        if name not in self._parameters:
            raise KeyError(f"ParameterDict has no parameter {name!r}. It has: {', '.join(self._parameters) or 'none'}.")
        found: Parameter = getattr(self, name)
        return found

    def __setitem__(self, name: str, value: Any) -> None:
        self.register_parameter(name, _learned(value))

    def __delitem__(self, name: str) -> None:
        self[name]  # raises for an unknown name
        delattr(self, name)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def get(self, name: str, default: Any = None) -> Any:
        """The parameter of that name, or the default."""
        found = self._parameters.get(name)
        return default if found is None else self[name]

    def keys(self) -> Iterable[str]:
        """The names."""
        return dict(self._parameters).keys()

    def values(self) -> Iterable[Parameter]:
        """The parameters."""
        return [self[name] for name in self]

    def items(self) -> Iterable[tuple[str, Parameter]]:
        """Names and parameters."""
        return [(name, self[name]) for name in self]

    def pop(self, name: str) -> Parameter:
        """Take a parameter out and return it."""
        found = self[name]
        del self[name]
        return found

    def clear(self) -> None:
        """Take all parameters out."""
        for name in list(self):
            del self[name]
