"""CSM's language model in kernels of our own, in C: int8 and int4 on x86-64 with AVX2 and on ARM64.

The kernels are compiled when the package is built (CONTRIBUTING.md), once for each kind of
processor.
"""
