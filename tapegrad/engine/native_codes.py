"""Flags in the code that a method thunk passes, beside the op code."""

REFLECTED, OPERATOR, INPLACE = 1 << 16, 1 << 17, 1 << 18
