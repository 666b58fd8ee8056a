"""The table from NumPy names to ops: what `np.sum(tensor)` and `np.sin(tensor)` run.

Ufuncs follow from the elementwise records, whose names and aliases are mostly NumPy's (`ufuncs.RENAMED` has the others).  Functions are rows
in the rooms here: `@row(samples...)` under a function with NumPy's name and parameters.  The samples are argument texts; tests evaluate each
on arrays, for the value, and on tensors, for value and derivatives.  An argument that only NumPy has raises `NoCounterpart`: the call is
NumPy's.
"""

from tapegrad.ops.numpy_table import choosing, linalg, products, queries, reductions, shapes, statistics
from tapegrad.ops.numpy_table.rows import ROWS, NoCounterpart, functions
from tapegrad.ops.numpy_table.ufuncs import ACCUMULATE, COMPOSED, REDUCE, ufunc_method, ufuncs
