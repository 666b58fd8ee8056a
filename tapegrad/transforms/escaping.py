"""What torch says of a sample that has left its vmap: its text names the function of torch that refuses, which depends on the operation."""

ESCAPED = (
    "Either your tensor may have escaped from inside a function being vmapped and this is a user error (see "
    "https://pytorch.org/functorch/stable/ux_limitations.html), or there is an internal functorch error in `{}` Please file an issue if it looks "
    "like the latter"
)
REDUCTIONS = frozenset(
    "amax amin aminmax argmax argmin argsort count_nonzero cummax cummin cumprod cumsum kthvalue log_softmax logcumsumexp logsumexp mean mode nansum "
    "norm softmax sort std std_mean sum topk var var_mean".split()
)
WRITES = frozenset("copy_ div_ index_add_ index_fill_ logical_and_ masked_fill_ mul_ sub_".split())


def text(name: str) -> str:
    """The refusal of the operation `name`."""
    where = "boxed_reduction_batch_rule" if name in REDUCTIONS else "gen_vmap_plumbing"
    if name.endswith("_") and not name.endswith("__"):
        where = "gen_vmap_inplace_plumbing" if name in WRITES else "boxed_tensor_inputs_batch_rule"
    return ESCAPED.format(where)
