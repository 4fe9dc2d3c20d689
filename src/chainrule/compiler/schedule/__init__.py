"""From a graph to kernels: which values get a buffer, which loops compute them, in which order, and where they lie."""
