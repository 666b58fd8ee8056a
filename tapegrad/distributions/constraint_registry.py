"""Transforms to the sets of constraints: `biject_to(constraint)` is a bijection from unconstrained numbers, `transform_to(constraint)` any map.

The second serves optimisation, the first also densities.
"""

from __future__ import annotations

import numbers

from tapegrad.distributions import constraints, transforms

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]


class ConstraintRegistry:
    """From constraints to transforms.

    >>> import tapegrad as tg
    >>> biject_to(constraints.positive)(tg.tensor(0.0))
    tensor(1.)
    """

    def __init__(self):
        self._registry: dict = {}
        super().__init__()

    def register(self, constraint, factory=None):
        """Register the function that makes the transform for a class of constraints (or that of an instance); also a decorator."""
        if factory is None:
            return lambda factory: self.register(constraint, factory)
        if isinstance(constraint, constraints.Constraint):
            constraint = type(constraint)
        if not isinstance(constraint, type) or not issubclass(constraint, constraints.Constraint):
            raise TypeError(f"Expected constraint to be either a Constraint subclass or instance, but got {constraint}")
        self._registry[constraint] = factory
        return factory

    def __call__(self, constraint):
        """The transform of unconstrained numbers to the set."""
        if type(constraint) not in self._registry:
            raise NotImplementedError(f"Cannot transform {type(constraint).__name__} constraints")
        return self._registry[type(constraint)](constraint)


biject_to, transform_to = ConstraintRegistry(), ConstraintRegistry()


def register(*sets, to=(biject_to, transform_to)):
    """Register a factory with some registries for some constraints."""

    def decorate(factory):
        for registry in to:
            for constraint in sets:
                registry.register(constraint, factory)
        return factory

    return decorate


@register(constraints.real)
def _to_real(constraint):
    return transforms.identity_transform


for _registry in (biject_to, transform_to):

    @register(constraints.independent, to=(_registry,))
    def _to_independent(constraint, registry=_registry):
        return transforms.IndependentTransform(registry(constraint.base_constraint), constraint.reinterpreted_batch_ndims)

    @register(constraints.cat, to=(_registry,))
    def _to_cat(constraint, registry=_registry):
        return transforms.CatTransform([registry(c) for c in constraint.cseq], constraint.dim, constraint.lengths)

    @register(constraints.stack, to=(_registry,))
    def _to_stack(constraint, registry=_registry):
        return transforms.StackTransform([registry(c) for c in constraint.cseq], constraint.dim)


@register(constraints.positive, constraints.nonnegative)
def _to_positive(constraint):
    return transforms.ExpTransform()


@register(constraints.greater_than, constraints.greater_than_eq)
def _to_greater_than(constraint):
    return transforms.ComposeTransform([transforms.ExpTransform(), transforms.AffineTransform(constraint.lower_bound, 1)])


@register(constraints.less_than)
def _to_less_than(constraint):
    return transforms.ComposeTransform([transforms.ExpTransform(), transforms.AffineTransform(constraint.upper_bound, -1)])


@register(constraints.interval, constraints.half_open_interval)
def _to_interval(constraint):
    low, high = constraint.lower_bound, constraint.upper_bound
    if isinstance(low, numbers.Number) and low == 0 and isinstance(high, numbers.Number) and high == 1:
        return transforms.SigmoidTransform()
    return transforms.ComposeTransform([transforms.SigmoidTransform(), transforms.AffineTransform(low, high - low)])


@register(constraints.simplex, to=(biject_to,))
def _biject_to_simplex(constraint):
    return transforms.StickBreakingTransform()


@register(constraints.simplex, to=(transform_to,))
def _transform_to_simplex(constraint):
    return transforms.SoftmaxTransform()


@register(constraints.lower_cholesky, to=(transform_to,))
def _transform_to_lower_cholesky(constraint):
    return transforms.LowerCholeskyTransform()


@register(constraints.positive_definite, constraints.positive_semidefinite, to=(transform_to,))
def _transform_to_positive_definite(constraint):
    return transforms.PositiveDefiniteTransform()


@register(constraints.corr_cholesky)
def _to_corr_cholesky(constraint):
    return transforms.CorrCholeskyTransform()
