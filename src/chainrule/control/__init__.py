"""Control flow as nodes that hold a region: `scan`."""

from chainrule.control.scan import scan as scan
