"""Sources: data that need not fit into memory, read window by window, in an order that a seed repeats."""

from chainrule.data.windows.opening import as_source, opened
from chainrule.data.windows.plan import Cursor
from chainrule.data.windows.source import Source, check_fingerprint
from chainrule.data.windows.window import Window

__all__ = ["Cursor", "Source", "Window", "as_source", "check_fingerprint", "opened"]
