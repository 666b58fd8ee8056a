"""Function transforms: functions that turn a function into its batched form, its gradient, its Jacobian, and compose to any depth.

    import tapegrad as tg
    from tapegrad.func import grad, vmap
    per_sample = vmap(grad(loss), in_dims=(None, 0, 0))(weights, xs, ys)
"""

from tapegrad.func.batched import debug_unwrap, vmap
from tapegrad.func.forward import hessian, jacfwd, jvp, linearize
from tapegrad.func.modules import functional_call, stack_module_state
from tapegrad.func.reverse import grad, grad_and_value, jacrev, vjp

__all__ = [
    "debug_unwrap", "functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize", "stack_module_state", "vjp", "vmap",
]
