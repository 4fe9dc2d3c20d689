"""Data: bundled sets, tables, sources larger than memory, orders and splits that a seed repeats, and checks before training."""

from typing import TYPE_CHECKING, Any

from chainrule.data.batches import shuffled_indices, train_test_split
from chainrule.data.sources import Dataset, load
from chainrule.names import bring

if TYPE_CHECKING:
    from chainrule.data.table import Table, TablePipeline, read_table
    from chainrule.data.windows import Cursor, Source, Window, as_source, check_fingerprint

# Brought in when first asked for: tables need the extra "data", and both take time to import.
_LATER = {
    **dict.fromkeys(("Table", "TablePipeline", "read_table"), "chainrule.data.table"),
    **dict.fromkeys(("Cursor", "Source", "Window", "as_source", "check_fingerprint"), "chainrule.data.windows"),
}
__all__ = [
    "Cursor",
    "Dataset",
    "Source",
    "Table",
    "TablePipeline",
    "Window",
    "as_source",
    "check_fingerprint",
    "load",
    "read_table",
    "shuffled_indices",
    "train_test_split",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return bring(__name__, name, _LATER[name])
