"""From kernels to the text of LLVM IR."""
