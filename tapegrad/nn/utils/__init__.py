"""What is done with the parameters of a module: clipping, flattening, calling with others, computing them from others."""

from tapegrad.nn.utils import parametrizations, parametrize, rnn, stateless
from tapegrad.nn.utils.clip_grad import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from tapegrad.nn.utils.convert_parameters import parameters_to_vector, vector_to_parameters
from tapegrad.nn.utils.reweighting import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm
