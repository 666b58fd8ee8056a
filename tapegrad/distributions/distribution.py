"""What a distribution is: parameters of a batch of distributions over events, samples of them and their densities.

A subclass names its parameters' sets in `arg_constraints` and, in `_parts`, the attributes that have the batch's shape (then that of an
event): tensors and distributions.  `expand`, validation and repr follow from these.
"""

from __future__ import annotations

import warnings
from typing import Any

import tapegrad as tg
from tapegrad.distributions import constraints
from tapegrad.distributions.utils import broadcast_all, lazy_property


class Distribution:
    """A batch (batch_shape) of independent distributions over events (event_shape).

    Samples have the shape sample_shape + batch_shape + event_shape, log-probabilities sample_shape + batch_shape.  Arguments are checked
    unless validate_args is false: ValueError for parameters outside of `arg_constraints`, and values outside of `support`.
    """

    has_rsample: Any = False
    has_enumerate_support = False
    _validate_args = __debug__
    _parts: tuple = ()
    _kept: tuple = ()  # other attributes of a distribution that an expanded one has too

    @staticmethod
    def set_default_validate_args(value) -> None:
        """Whether distributions check their arguments unless they are told."""
        if value not in [True, False]:
            raise ValueError
        Distribution._validate_args = value

    def __init__(self, batch_shape=tg.Size(), event_shape=tg.Size(), validate_args=None):  # noqa: B008
        self._batch_shape, self._event_shape = batch_shape, event_shape
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._validate_parameters()
        super().__init__()

    def _validate_parameters(self) -> None:
        try:
            sets = self.arg_constraints
        except NotImplementedError:
            sets = {}
            warnings.warn(
                f"{type(self)} does not define `arg_constraints`. Please set `arg_constraints = {{}}` or initialize the distribution with "
                "`validate_args=False` to turn off validation.", stacklevel=3,
            )  # fmt: skip
        for name, constraint in sets.items():
            if constraints.is_dependent(constraint):
                continue
            if name not in self.__dict__ and isinstance(getattr(type(self), name), lazy_property):
                continue  # what would only be computed from the given parameters
            value = getattr(self, name)
            if not constraint.check(value).all():
                raise ValueError(
                    f"Expected parameter {name} ({type(value).__name__} of shape {tuple(value.shape)}) of distribution {self!r} to satisfy the "
                    f"constraint {constraint!r}, but found invalid values:\n{value}"
                )

    def _broadcast(self, **parameters) -> tg.Size:
        """Keep parameters, tensors and numbers, as tensors of one shape, which is returned."""
        values = broadcast_all(*parameters.values())
        for name, value in zip(parameters, values):
            setattr(self, name, value)
        return values[0].size()

    def expand(self, batch_shape, _instance=None):
        """The same distribution with parameters expanded to a larger batch shape."""
        family = next(c for c in type(self).__mro__ if c.__module__.startswith(__package__))  # of which a program's class may be a subclass
        new = self._get_checked_instance(family, _instance)
        self._expand_into(new, tg.Size(batch_shape))
        return new

    def _expand_into(self, new, batch_shape) -> None:
        """Give `new` what this distribution has, expanded."""
        rank = len(self._batch_shape)
        for name in self._parts:
            part = self.__dict__.get(name)
            if isinstance(part, Distribution):
                new.__dict__[name] = part.expand(batch_shape)
            elif part is not None:
                new.__dict__[name] = part.expand(batch_shape + part.shape[rank:])
        for name in self._kept:
            if name in self.__dict__:
                new.__dict__[name] = self.__dict__[name]
        Distribution.__init__(new, batch_shape, self._event_shape, validate_args=False)
        new._validate_args = self._validate_args

    @property
    def batch_shape(self):
        """The shape over which parameters are batched."""
        return self._batch_shape

    @property
    def event_shape(self):
        """The shape of a single sample of one distribution."""
        return self._event_shape

    @property
    def arg_constraints(self) -> Any:
        """The set of each parameter, by name."""
        raise NotImplementedError

    @property
    def support(self) -> Any:
        """The set of possible samples."""
        raise NotImplementedError

    @property
    def mean(self) -> Any:
        """The mean."""
        raise NotImplementedError

    @property
    def mode(self) -> Any:
        """The most probable value."""
        raise NotImplementedError(f"{type(self)} does not implement mode")

    @property
    def variance(self) -> Any:
        """The variance."""
        raise NotImplementedError

    @property
    def stddev(self) -> Any:
        """The standard deviation."""
        return self.variance.sqrt()

    def sample(self, sample_shape=tg.Size()) -> Any:  # noqa: B008
        """Samples without a gradient."""
        with tg.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape=tg.Size()) -> Any:  # noqa: B008
        """Samples as differentiable functions of the parameters."""
        raise NotImplementedError

    def sample_n(self, n):
        """The old form of `sample((n,))`."""
        warnings.warn("`sample_n(n)` will be deprecated. Use `sample((n,))` instead.", FutureWarning, stacklevel=2)
        return self.sample(tg.Size((n,)))

    def log_prob(self, value) -> Any:
        """The logarithm of the density, or of the probability, at `value`."""
        raise NotImplementedError

    def cdf(self, value) -> Any:
        """The distribution function at `value`."""
        raise NotImplementedError

    def icdf(self, value) -> Any:
        """The inverse of the distribution function at the probability `value`."""
        raise NotImplementedError

    def enumerate_support(self, expand=True) -> Any:
        """All values of a discrete distribution along a new first dimension, expanded over the batch or not."""
        raise NotImplementedError

    def entropy(self) -> Any:
        """The entropy, in nats."""
        raise NotImplementedError

    def perplexity(self):
        """exp of the entropy."""
        return tg.exp(self.entropy())

    def _extended_shape(self, sample_shape=tg.Size()):  # noqa: B008
        return tg.Size(tg.Size(sample_shape) + self._batch_shape + self._event_shape)

    def _enumerated(self, values, expand):
        """`values` along a new first dimension before the batch."""
        values = values.view((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1,) + self._batch_shape) if expand else values

    def _checked(self, value) -> None:
        """Refuse what is no sample, if arguments are checked."""
        if self._validate_args:
            self._validate_sample(value)

    def _validate_sample(self, value) -> None:
        if not isinstance(value, tg.Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        actual, expected = value.size(), self._batch_shape + self._event_shape
        if actual[len(actual) - len(self._event_shape) :] != self._event_shape:
            raise ValueError(f"The right-most size of value must match event_shape: {actual} vs {self._event_shape}.")
        for i, j in zip(reversed(actual), reversed(expected)):
            if i != 1 and j != 1 and i != j:
                raise ValueError(f"Value is not broadcastable with batch_shape+event_shape: {actual} vs {expected}.")
        try:
            support = self.support
        except NotImplementedError:
            warnings.warn(
                f"{type(self)} does not define `support` to enable sample validation. Please initialize the distribution with "
                "`validate_args=False` to turn off validation.", stacklevel=4,
            )  # fmt: skip
            return
        if not support.check(value).all():
            raise ValueError(
                f"Expected value argument ({type(value).__name__} of shape {tuple(value.shape)}) to be within the support ({support!r}) of the "
                f"distribution {self!r}, but found invalid values:\n{value}"
            )

    def _get_checked_instance(self, cls, _instance=None):
        if _instance is None and type(self).__init__ != cls.__init__:
            raise NotImplementedError(
                f"Subclass {type(self).__name__} of {cls.__name__} that defines a custom __init__ method must also define a custom .expand() method."
            )
        return self.__new__(type(self)) if _instance is None else _instance

    def __repr__(self):
        given = {name: self.__dict__[name] for name in self.arg_constraints if name in self.__dict__}
        return f"{type(self).__name__}({', '.join(f'{n}: {p if p.numel() == 1 else p.size()}' for n, p in given.items())})"
