"""From LLVM IR to machine code in memory, and running it: the cache, buffers, threads."""
