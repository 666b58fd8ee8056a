"""From native functions to machine code, and the disk cache in between.

A compiled unit is one self-contained object: the engine (`native/*.py` as a whole) or one kernel (`kernels.py` writes its source).
Its name in the cache is the SHA-256 of everything that decides its code: the sources, the numba and llvmlite versions, the
CPU with its features.  Objects are loaded by llvmlite alone, so that a warm start never imports numba.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import os
import tempfile
from importlib import metadata
from pathlib import Path

import llvmlite.binding as llvm
from llvmlite.binding import ffi

from tapegrad import locks

locks.order.append(ffi.lib._lock)
SUFFIX = ".o"
MAGIC = b"tapegrad-object-1\n"


@functools.cache
def target():
    """(cpu name, features) that code is compiled for."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@functools.cache
def target_machine():
    cpu, features = target()
    return llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=2, codemodel="jitdefault", jit=True)


@functools.cache
def versions() -> str:
    return " ".join(f"{name}={metadata.version(name)}" for name in ("numba", "llvmlite"))


def key(*texts: str) -> str:
    """The content address of a unit."""
    digest = hashlib.sha256()
    for text in (versions(), *target(), *texts):
        digest.update(text.encode())
        digest.update(b"\0")
    return digest.hexdigest()


# --- the disk cache -------------------------------------------------------------------------------------------------
@functools.cache
def cache_directory() -> Path | None:
    """Where objects are kept: TAPEGRAD_CACHE_DIR, else the user's cache directory; None if neither can be used."""
    chosen = os.environ.get("TAPEGRAD_CACHE_DIR")
    if chosen is None:
        import platformdirs

        chosen = platformdirs.user_cache_dir("tapegrad", appauthor=False)
    if not chosen:
        return None
    try:
        path = Path(chosen)
        path.mkdir(parents=True, exist_ok=True)
        return path
    except OSError:
        return None


def load_cached(name: str) -> bytes | None:
    """The object stored under a content address, None if there is none that is whole."""
    directory = cache_directory()
    if directory is None:
        return None
    try:
        blob = (directory / (name + SUFFIX)).read_bytes()
    except OSError:
        return None
    if not blob.startswith(MAGIC):
        return None
    digest, body = blob[len(MAGIC) : len(MAGIC) + 32], blob[len(MAGIC) + 32 :]
    # The digest covers the name too: a file copied over another is foreign, however whole it is.
    return body if hashlib.sha256(name.encode() + body).digest() == digest else None


def store_cached(name: str, body: bytes) -> None:
    """Keep an object; a directory that cannot be written is no error."""
    directory = cache_directory()
    if directory is None:
        return
    try:
        handle, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(MAGIC + hashlib.sha256(name.encode() + body).digest() + body)
            os.replace(temporary, directory / (name + SUFFIX))
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        return


# --- loading --------------------------------------------------------------------------------------------------------
_engines: list = []  # loaded code must stay


@locks.holding(locks.compiler)
def load(*bodies: bytes):
    """Load objects, which may refer to each other; returns a function from symbol name to address."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    for body in bodies:
        engine.add_object_file(llvm.ObjectFileRef.from_data(body))
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address


# --- compiling (imports numba) --------------------------------------------------------------------------------------
@functools.cache
def _pipeline():
    """numba's pipeline without the passes that our plain functions give nothing to do (a fifth of its time)."""
    from numba.core import compiler, typed_passes, untyped_passes

    idle = {
        untyped_passes.InlineClosureLikes,
        untyped_passes.GenericRewrites,
        untyped_passes.MakeFunctionToJitFunction,
        untyped_passes.LiteralUnroll,
        untyped_passes.LiteralPropagationSubPipelinePass,
        typed_passes.NopythonRewrites,
        typed_passes.InlineOverloads,
    }

    class Pipeline(compiler.CompilerBase):
        def define_pipelines(self):
            manager = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
            manager.passes = [row for row in manager.passes if row[0] not in idle]
            manager.finalize()
            return [manager]

    return Pipeline


@contextlib.contextmanager
def no_collection():
    """Compiling, or starting the engine, makes many objects and no garbage: the cycle collector would only walk them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@no_collection()
def _lower(functions: dict[str, tuple]):
    """The unoptimised LLVM module of {symbol: (function, result, argument types)}."""
    from numba.core import compiler
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.cpu_options import FastMathOptions
    from numba.core.registry import cpu_target

    with global_compiler_lock:  # numba compiles in one thread at a time
        return _lower_locked(functions, compiler, FastMathOptions, cpu_target)


def _lower_locked(functions, compiler, FastMathOptions, cpu_target):
    typing, context = cpu_target.typing_context, cpu_target.target_context
    typing.refresh()
    context.refresh()
    combined = llvm.parse_assembly("")
    pipeline = _pipeline()
    seen = set()
    wrappers = []
    for symbol, (function, result, arguments) in functions.items():
        flags = compiler.Flags()
        flags.no_compile = True  # no machine code yet: the whole object is optimised at once
        flags.no_cpython_wrapper = True
        flags.no_cfunc_wrapper = True
        flags.error_model = "numpy"
        flags.fastmath = FastMathOptions(getattr(function, "fastmath", {"contract"}))
        compiled = compiler.compile_extra(typing, context, function, tuple(arguments), result, flags, {}, pipeline_class=pipeline)
        library = compiled.library
        combined.link_in(llvm.parse_bitcode(library._final_module.as_bitcode()))
        for helper in library._linking_libraries:
            if helper not in seen:
                seen.add(helper)
                combined.link_in(helper._get_module_for_linking(), preserve=True)
        wrappers.append(_wrapper(symbol, compiled.fndesc.llvm_func_name, result, arguments))
    combined.link_in(llvm.parse_assembly("\n".join(wrappers)))
    return combined


def _wrapper(symbol: str, inner: str, result, arguments) -> str:
    """The C function `symbol` around a function in numba's calling convention (status returned, result by pointer)."""
    names = {"int64": "i64", "float64": "double", "none": "void"}
    types = [names.get(str(a), "i64") for a in arguments]
    kind = names[str(result)]
    slot = "ptr" if kind == "void" else kind
    declared = ", ".join(["ptr", "ptr", *types])
    passed = ", ".join(["ptr %result", "ptr %error", *(f"{t} %a{k}" for k, t in enumerate(types))])
    back = "ret void" if kind == "void" else f"%value = load {kind}, ptr %result\n  ret {kind} %value"
    return (
        f'declare i32 @"{inner}"({declared})\n'
        f'define {kind} @"{symbol}"({", ".join(f"{t} %a{k}" for k, t in enumerate(types))}) alwaysinline {{\n'
        f"  %result = alloca {slot}\n  %error = alloca ptr\n"
        f'  %status = call i32 @"{inner}"({passed})\n  {back}\n}}'
    )


def _finish(module, exports) -> bytes:
    """Optimise a module, of which only `exports` stay visible, and emit its object."""
    for function in module.functions:
        if not function.is_declaration and function.name not in exports:
            function.linkage = "internal"
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = True
    builder = llvm.create_pass_builder(target_machine(), options)
    builder.getModulePassManager().run(module, builder)
    return target_machine().emit_object(module)


@locks.holding(locks.compiler)
def compile_functions(functions: dict[str, tuple]) -> bytes:
    """Compile {symbol: (function, result, argument types)} into one object that exports the symbols."""
    return _finish(_lower(functions), set(functions))


@locks.holding(locks.compiler)
def compile_module(text: str, exports) -> bytes:
    """Compile a module in LLVM's text form, of which only `exports` stay visible."""
    return _finish(llvm.parse_assembly(text), exports)


@locks.holding(locks.compiler)
def compile_ir(source: str) -> bytes:
    """The object of a module in LLVM's text form."""
    return target_machine().emit_object(llvm.parse_assembly(source))
