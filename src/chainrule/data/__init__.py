"""Data: bundled sets, tables, orders and splits that a seed repeats, and checks before training."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chainrule.data.batches import shuffled_indices, train_test_split
from chainrule.data.sources import Dataset, load

if TYPE_CHECKING:
    from chainrule.data.table import Table, TablePipeline, read_table

_TABLES = ("Table", "TablePipeline", "read_table")  # brought in when first asked for: they need the extra "data"
__all__ = ["Dataset", "Table", "TablePipeline", "load", "read_table", "shuffled_indices", "train_test_split"]


def __getattr__(name: str) -> Any:
    if name not in _TABLES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("chainrule.data.table"), name)
