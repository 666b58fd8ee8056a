"""Scalar maths of the compiled kernels: exp, log, sin, erf, pow and the like, written so that loops calling them vectorise.

`library` is the entry: `compiled(dtype)` for numba kernels, `plain(dtype)` for NumPy arrays. Importing the package imports nothing.
"""
