"""Tables: read from files, looked at column by column, encoded for a network. Needs the extra ``data``."""

from importlib.util import find_spec

from chainrule.errors import MissingLibraryError

if find_spec("polars") is None:
    raise MissingLibraryError(
        "tables need polars and pyarrow, which are not installed. Run: pip install 'chainrule[data]'"
    )

from chainrule.data.table.kinds import Column, guess
from chainrule.data.table.leaks import Leak, leaks
from chainrule.data.table.pipeline import TablePipeline
from chainrule.data.table.reading import read_table
from chainrule.data.table.splits import split_rows
from chainrule.data.table.table import Table
from chainrule.data.table.target import Target
from chainrule.names import classes_take_keywords

classes_take_keywords("", [Table, TablePipeline])

__all__ = ["Column", "Leak", "Table", "TablePipeline", "Target", "guess", "leaks", "read_table", "split_rows"]
