"""Neural networks: modules, functions, initial values and utilities, as `torch.nn` has them."""

from tapegrad.nn import functional, init, modules, parameter, utils
from tapegrad.nn.modules import *  # noqa: F403
from tapegrad.nn.parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter
