"""Transforms of functions: vmap and forward mode as levels of wrapped tensors, reverse mode on the tape below them.

Start reading at `wrappers.py`, then `batching.py`, `forward.py` and `reverse.py`; docs/design/010-transforms.md has the reasons.
"""
