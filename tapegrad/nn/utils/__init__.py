"""What is done with the parameters of a module: clipping, flattening, calling with others."""

from tapegrad.nn.utils import rnn, stateless
from tapegrad.nn.utils.clip_grad import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from tapegrad.nn.utils.convert_parameters import parameters_to_vector, vector_to_parameters
