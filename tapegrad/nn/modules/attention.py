"""Attention with learnt projections."""

from __future__ import annotations

from tapegrad.nn import functional as F
from tapegrad.nn import init
from tapegrad.nn.modules.linear import Linear
from tapegrad.nn.modules.module import Module
from tapegrad.nn.modules.weights import new_parameter


class NonDynamicallyQuantizableLinear(Linear):
    """`Linear`, by the name that torch's texts and saved states have here."""


class MultiheadAttention(Module):
    """num_heads attentions side by side, on learnt projections of query, key and value; their outputs are projected once more.

    Query (L, N, E), key (S, N, kdim), value (S, N, vdim); with `batch_first` N first; or without N.

    >>> import tapegrad as tg
    >>> attention = tg.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> output, weights = attention(tg.ones(3, 5, 8), tg.ones(3, 6, 8), tg.ones(3, 6, 8))
    >>> output.shape, weights.shape
    (tapegrad.Size([3, 5, 8]), tapegrad.Size([3, 5, 6]))
    """

    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True, add_bias_kv=False, add_zero_attn=False, kdim=None, vdim=None,
                 batch_first=False, device=None, dtype=None):
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and num_heads={num_heads} instead")
        super().__init__()
        self.embed_dim, self.kdim, self.vdim = embed_dim, embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.num_heads, self.dropout, self.batch_first, self.head_dim = num_heads, dropout, batch_first, embed_dim // num_heads
        if self.head_dim * num_heads != embed_dim:
            raise AssertionError("embed_dim must be divisible by num_heads")
        e, placed = embed_dim, {"device": device, "dtype": dtype}
        shapes = {"in_proj_weight": (3 * e, e)} if self._qkv_same_embed_dim else {
            "q_proj_weight": (e, e), "k_proj_weight": (e, self.kdim), "v_proj_weight": (e, self.vdim)
        }
        for name in [*shapes, *(n for n in ("q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_weight") if n not in shapes)]:
            self.register_parameter(name, new_parameter(*shapes[name], **placed) if name in shapes else None)
        self.register_parameter("in_proj_bias", new_parameter(3 * e, **placed) if bias else None)
        self.out_proj = NonDynamicallyQuantizableLinear(e, e, bias=bias, **placed)
        for name in ("bias_k", "bias_v"):
            self.register_parameter(name, new_parameter(1, 1, e, **placed) if add_bias_kv else None)
        self.add_zero_attn = add_zero_attn
        self._reset_parameters()

    def _reset_parameters(self):
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if getattr(self, name) is not None:
                init.xavier_uniform_(getattr(self, name))
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def forward(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None, average_attn_weights=True, is_causal=False):
        """(output like query, the heads' mean weights (N, L, S)); each head's with average_attn_weights=False, None without need_weights.

        `key_padding_mask` (N, S) and `attn_mask` (L, S) or (N num_heads, L, S) are added to the scores, or leave out where they are True;
        `is_causal` only says that attn_mask is a causal one.
        """
        turned = self.batch_first and query.dim() == 3
        if turned:
            query, key, value = (t.transpose(0, 1) if t.ndim == 3 else t for t in (query, key, value))
        output, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k, self.bias_v,
            self.add_zero_attn, self.dropout, self.out_proj.weight, self.out_proj.bias, training=self.training,
            key_padding_mask=key_padding_mask, need_weights=need_weights, attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim, q_proj_weight=self.q_proj_weight, k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight, average_attn_weights=average_attn_weights, is_causal=is_causal,
        )
        return output.transpose(0, 1) if turned else output, weights
