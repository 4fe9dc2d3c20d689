"""From graph to graph: the same values from fewer equations."""
