"""The errors chainrule raises: who, what must hold, what came, what to do.

Each is also the built-in error a PyTorch or NumPy user would expect, so an
existing ``except ValueError`` keeps working.
"""

from __future__ import annotations

import sys


class ChainruleError(Exception):
    """The root of every error raised on purpose by chainrule."""


class ShapeError(ChainruleError, ValueError):
    """Shapes that do not fit together."""


class DtypeError(ChainruleError, TypeError):
    """A dtype that an operation does not take."""


class IndexRangeError(ChainruleError, IndexError):
    """An index or label outside its axis."""


class GradientError(ChainruleError, RuntimeError):
    """A gradient that was asked for but does not exist."""


class DivisionByZeroError(ChainruleError, RuntimeError, ZeroDivisionError):
    """Integers divided by 0."""


class InPlaceError(ChainruleError, RuntimeError):
    """An in-place write that would lose a gradient or a value."""


class TraceError(ChainruleError, RuntimeError):
    """Python asked a traced tensor for a value that does not exist yet."""


class VerifyError(ChainruleError, RuntimeError):
    """A graph that breaks the grammar of ``equations.py``."""


class DataError(ChainruleError, ValueError):
    """Training data that cannot be trained on: empty, not finite, mismatched, out of range."""


class UnknownNameError(ChainruleError, ValueError):
    """An optimizer, activation, dataset or metric that does not exist."""


class DamagedFileError(ChainruleError, OSError):
    """A model or run file that cannot be read."""


class UnwritableFileError(ChainruleError, OSError):
    """A file that could not be written: no space, no permission, a failing disk. What stood there before still stands."""


class NonFiniteError(ChainruleError, FloatingPointError):
    """A NaN or infinity that stopped training."""


class ReplayError(ChainruleError, RuntimeError):
    """A recorded training that cannot be brought back: nothing recorded, nothing readable, or other bits."""


class BusyError(ChainruleError, RuntimeError):
    """A training that two want to change at once: two threads, or a callback of its own."""


class SettingError(ChainruleError, ValueError):
    """An argument of a layer, loss or optimizer that cannot mean anything."""


class NotEnoughMemoryError(ChainruleError, MemoryError):
    """A program that needs more memory than there is, noticed before it runs."""


class WorkerError(ChainruleError, RuntimeError):
    """A worker process of a data loader that died, or whose batch did not come in time."""


class NestingError(ChainruleError, RecursionError):
    """Layers, lists or dicts that are nested deeper than Python can walk, or that hold themselves."""


class MissingLibraryError(ChainruleError, ImportError):
    """A library that an extra of chainrule brings is not installed."""


class StateDictError(ChainruleError, RuntimeError):
    """Saved state that does not fit the module or optimizer it is loaded into."""


def nested_too_deep(who: str) -> NestingError:
    """The error for lists, tuples and dicts that Python cannot walk to their ends."""
    return NestingError(
        f"{who}: lists, tuples or dicts are nested deeper than Python can walk (sys.getrecursionlimit() is "
        f"{sys.getrecursionlimit():,}), or one of them holds itself. Pass tensors in one list, or stacked in one tensor."
    )


def unknown_name(kind: str, name: object, known: list[str], elsewhere: str = "") -> UnknownNameError:
    """The error for a name that is not in a table, with the nearest names first, or what is known of it `elsewhere`."""
    import difflib

    shown = repr(name) if len(repr(name)) < 80 else f"{repr(name)[:70]}..."
    near = difflib.get_close_matches(str(name), known, n=3)
    if not near and isinstance(name, str) and len(name) > 1:  # cut short, as acc is of accuracy
        near = [full for full in known if full.startswith(name.lower())][:3]
    hint = f" {elsewhere}" if elsewhere else f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UnknownNameError(f"unknown {kind} {shown}.{hint} Known: {', '.join(sorted(known))}.")


def kind_of(value: object) -> str:
    """What to call what somebody gave: the name of its class, and of its library where that is the name of ours, too."""
    kind = type(value)
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}" if kind.__name__ == "Tensor" else kind.__name__
