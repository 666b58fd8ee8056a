"""Functions of neural networks, as `torch.nn.functional` has them."""

from tapegrad import overriding as _overriding
from tapegrad import planned as _planned
from tapegrad.nn.functional.activation import (
    celu,
    celu_,
    elu,
    elu_,
    gelu,
    glu,
    gumbel_softmax,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    hardtanh_,
    leaky_relu,
    leaky_relu_,
    log_softmax,
    logsigmoid,
    mish,
    prelu,
    relu,
    relu6,
    relu_,
    rrelu,
    rrelu_,
    selu,
    selu_,
    sigmoid,
    silu,
    softmax,
    softmin,
    softplus,
    softshrink,
    softsign,
    tanh,
    tanhshrink,
    threshold,
    threshold_,
)
from tapegrad.nn.functional.attention import multi_head_attention_forward, scaled_dot_product_attention
from tapegrad.nn.functional.bags import embedding_bag
from tapegrad.nn.functional.conv import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from tapegrad.nn.functional.ctc import ctc_loss
from tapegrad.nn.functional.distance import cosine_similarity, normalize, pairwise_distance, pdist
from tapegrad.nn.functional.dropout import alpha_dropout, dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout
from tapegrad.nn.functional.folding import channel_shuffle, fold, pixel_shuffle, pixel_unshuffle, unfold
from tapegrad.nn.functional.grids import affine_grid, grid_sample
from tapegrad.nn.functional.linear import bilinear, linear
from tapegrad.nn.functional.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    cross_entropy,
    gaussian_nll_loss,
    hinge_embedding_loss,
    huber_loss,
    kl_div,
    l1_loss,
    margin_ranking_loss,
    mse_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    nll_loss,
    poisson_nll_loss,
    smooth_l1_loss,
    soft_margin_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from tapegrad.nn.functional.normalization import batch_norm, group_norm, instance_norm, layer_norm, local_response_norm, rms_norm
from tapegrad.nn.functional.padding import pad
from tapegrad.nn.functional.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from tapegrad.nn.functional.resampling import interpolate, upsample, upsample_bilinear, upsample_nearest
from tapegrad.nn.functional.sparse import embedding, one_hot
from tapegrad.nn.functional.unpooling import max_unpool1d, max_unpool2d, max_unpool3d

_overriding.space(globals())
_planned.serve(__name__.removeprefix("tapegrad."), globals())
