"""Flags in the code that a method thunk passes, beside the op code or the number of a planned method."""

REFLECTED, INPLACE = 1 << 16, 1 << 18
FORM = 32  # from this bit on: the number of the form that is called, of an elementwise op
# Planned methods: all numbers among the arguments are operands (where), or the last argument if it is a number (x[i] = 2.0); None is returned.
NUMBERS, NUMBER_LAST, VOID_RESULT = 1 << 19, 1 << 20, 1 << 21
