"""From Python to a graph and back: tracing, what a trace read, the programs of a function and the tensors they are bound to."""
