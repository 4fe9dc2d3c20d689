"""``chainrule bench``: a training step of ours beside those of other libraries, on the same work in one run.

workloads   what is trained: networks, initial weights, batches; the arithmetic and the bytes of a step
peers       who trains it: one file an implementation
worker      a process of its own for each implementation
measure     agreement first, then interleaved rounds
machine     what the machine can do at most
report      ratios, shares and the table
"""
