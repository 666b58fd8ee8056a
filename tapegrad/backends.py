"""`tapegrad.backends`: what programs ask and set about the libraries behind PyTorch.  Only the CPU is here, so the settings of others have no effect."""

from __future__ import annotations

from types import SimpleNamespace


def _absent(**settings) -> SimpleNamespace:
    """A backend that is not there, with settings that may be read and changed."""
    return SimpleNamespace(is_available=lambda: False, is_built=lambda: False, version=lambda: None, **settings)


def _blas() -> bool:
    """Whether BLAS and LAPACK are there: SciPy brings them."""
    return True


def _capability() -> str:
    """The vector instructions of the processor, by torch's names."""
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return "AVX512"
    return "AVX2" if features.get("avx2") else "DEFAULT"


cudnn = _absent(enabled=True, deterministic=False, benchmark=False, benchmark_limit=None, allow_tf32=True)
cuda = _absent(matmul=SimpleNamespace(allow_tf32=False, allow_fp16_reduced_precision_reduction=True, allow_bf16_reduced_precision_reduction=True))
mps = _absent()
mkldnn = _absent(enabled=True, deterministic=False, allow_tf32=True)
mkl = _absent()
openmp = _absent()
lapack = SimpleNamespace(is_available=_blas)
cpu = SimpleNamespace(get_cpu_capability=_capability)
