"""Running a backward pass: roots and gradients in, `.grad` fields or captured gradients out.

Without create_graph the compiled sweep does the work and comes back for structural ops and hooks (`Sweep.barrier`).  With
create_graph the same marked entries are visited in the same order, but their derivatives run on Tensors and are recorded.
"""

from __future__ import annotations

import threading
import time
from array import array

from tapegrad import core, geometry, modes
from tapegrad.autograd import accumulate, anomaly_mode, flat, leaf_node, nesting, saved, saved_errors
from tapegrad.autograd import hooks as hooking
from tapegrad.autograd import node as nodes
from tapegrad.autograd.underway import numbers, running
from tapegrad.dtypes import OF_SLOT, PLAIN
from tapegrad.engine import layout
from tapegrad.ops import formulas
from tapegrad.ops.registry import BY_CODE, Elementwise


def cotangent_sum(slot, g):
    """`g` reduced to the shape of `slot` if it was broadcast, in its dtype."""
    shape = geometry.shapes[core.get_field(slot, core.GEOMETRY)]
    if g.shape != shape:
        g = g.sum_to_size(shape)
    wanted = OF_SLOT[core.get_field(slot, core.DTYPE)]
    if g.dtype is not wanted:
        if g.dtype.is_complex and not wanted.is_complex:
            g = g.real  # of a real tensor in a complex computation
        g = g.to(wanted)
    return in_memory(g)


def in_memory(g):
    """A gradient whose conjugation is not postponed: compiled code adds memory."""
    if g is None or core.get_field(g._slot, core.DTYPE) <= PLAIN:
        return g
    from tapegrad.ops import postponed

    return postponed.carried_out(g)


def is_reached(slot: int) -> bool:
    """Whether a gradient can arrive at `slot`; not at a view made in no_grad mode, which requires grad because its base does."""
    return core.get_field(slot, core.ENTRY) >= 0 or bool(core.get_field(slot, core.FLAGS) & layout.LEAF_GRAD)


class Sweep:
    """One backward pass."""

    def __init__(self, retain: bool, create: bool):
        self.retain, self.create = retain, create
        self.number, self.thread = next(numbers), threading.get_ident()
        self.capturing = False  # it returns gradients, or accumulates in chosen tensors only
        self.anomaly = anomaly_mode.is_anomaly_enabled()
        self.in_python = create or self.anomaly  # derivatives run on Tensors, entry by entry
        self.captured, self.captured_at = array("q"), (0, 0)  # slots whose gradients are returned; address and count of them
        self.callbacks: list = []  # to be called when the pass is over
        self.at = -1  # the entry whose hooks and derivative run in Python at the moment
        self.unmet: dict[int, None] = {}  # hooked leaves that a derivative had no gradient for: the hooks hear of that unless there is one after all
        self.as_captured: dict[int, object] = {}  # captured slot -> its gradient before the hooks of its node
        self.cotangents: dict[int, object] = {}  # create_graph: slot -> Tensor

    def run(self, roots, gradients, captured=None, accumulate=True, probe=False):
        """Sweep from `roots`; with `captured` (slots), return their gradients (None where there is none)."""
        if len(running) % nesting.DEPTH == nesting.DEPTH - 1 and running[-1].thread == threading.get_ident():
            return nesting.in_new_thread(lambda: self._run(roots, gradients, captured, accumulate, probe))
        return self._run(roots, gradients, captured, accumulate, probe)

    def _run(self, roots, gradients, captured, accumulate, probe):
        self.thread = threading.get_ident()
        hooks = saved.active_hooks()
        self.capturing = captured is not None
        outer, thread, before, threads = None, core.thread_id(), modes.word(), core.threads.value
        level = len(running) if core.sweeping.value and core.sweep_owner.value == thread else 0
        while core.sweeping.value and core.sweep_owner.value != thread:  # one sweep at a time: another thread's goes first
            time.sleep(0.0001)
        depth = core.sweeping.value  # until `try` there is no call, and so neither another thread nor a KeyboardInterrupt can come between
        core.sweeping.value, core.sweep_owner.value = depth + 1, thread
        try:
            if depth:
                outer = nesting.put_away(running)
            core.sweep_entry.value = core.entry_count.value  # before there are marks, which are cleared from here on down
            running.append(self)
            modes.set_bits(modes.GRAD, self.create)
            if before & modes.SERIAL:
                core.threads.value = 1
            for root in roots:
                core.mark(root._slot)
            if captured is not None:
                self._capture(captured)
                if probe:
                    self.found = self._meets_other_leaves(roots)
                    return None
                core.prune_marks(core.entry_count.value)
            core.sweep_retain.value = self.retain
            self.in_python = self.in_python or any(g is not None and g._level is not None for g in gradients)  # cotangents of a transform
            if self.in_python:
                self._sweep_tensors(roots, gradients)
            else:
                self._sweep(roots, gradients)
            if captured is not None:
                result = self._collect(captured, accumulate)
                if accumulate:
                    self._deposit_captured(captured, result)
                self._call_back()
                return result
            self._deposit()
            self._call_back()
        finally:
            if before & modes.SERIAL:
                core.threads.value = threads
            del running[level:]
            core.close_sweep(before, *self.captured_at)  # the first call here, and compiled: a KeyboardInterrupt comes after it
            saved.put_back_hooks(hooks)
            if outer is not None:
                nesting.put_back(outer)

    def reaches_others(self, roots, captured) -> bool:
        """Whether `roots` depend on a leaf, or on anything above `captured`, that requires grad besides the slots `captured`."""
        if any(core.get_field(slot, core.ENTRY) >= 0 for slot in captured):
            return True
        self.found = False
        self.run(roots, [None] * len(roots), captured, probe=True)
        return self.found

    @staticmethod
    def _meets_other_leaves(roots) -> bool:
        other = lambda slot: core.get_field(slot, core.FLAGS) & (layout.LEAF_GRAD | layout.CAPTURED) == layout.LEAF_GRAD
        return any(other(root._slot) for root in roots) or bool(core.marked_leaves(core.entry_count.value))

    # --- captured slots -------------------------------------------------------------------------------------------------
    def _capture(self, slots) -> None:
        self.captured = array("q", (slot for slot in dict.fromkeys(slots) if is_reached(slot)))
        self.captured_at = self.captured.buffer_info()
        core.capture(*self.captured_at)

    def _collect(self, slots, executes: bool) -> list:
        """The gradients of the captured slots; `executes`: the nodes there count as run, though nothing below them is wanted."""
        result = []
        for slot in slots:
            if self.in_python:
                g = self.cotangents.get(slot)
            else:
                found = core.get_field(slot, core.COTANGENT)
                g = core.wrap(found) if found else None
            if slot in self.as_captured:
                g = self.as_captured[slot]
            elif g is not None or slot in self.unmet:
                g = self._hooks_of_captured(slot, g, executes)
            result.append(g)
        return result

    def _hooks_of_captured(self, slot, g, executes: bool):
        """The tensor hooks of a captured slot whose node the sweep did not need to visit."""
        e = core.get_field(slot, core.ENTRY)
        if e < 0:
            return self._leaf_hooks(slot, g)
        payload = nodes.payload(e)
        if payload is None:
            return g
        number = core.get_field(slot, core.OUTPUT_NR)
        g = self._tensor_hooks(payload, number, g)
        if executes and (payload.prehooks or payload.posthooks):
            gs: list = [None] * core.entry_field(e, core.ENTRY_NOUT)
            gs[number] = g
            gs = hooking.run_before_node(payload.prehooks, e, gs)
            hooking.run_on_node(payload.posthooks, [None] * len(nodes.edges(e)), tuple(hooking.shown_gradients(e, gs)))
        return g

    def _deposit_captured(self, slots, gradients) -> None:
        for slot, g in dict(zip(slots, gradients, strict=True)).items():
            if g is not None and core.get_field(slot, core.ENTRY) < 0:
                accumulate.store_grad(slot, g, self.create)

    # --- the compiled sweep ---------------------------------------------------------------------------------------------
    def _sweep(self, roots, gradients) -> None:
        for root, g in zip(roots, gradients, strict=True):
            if self.capturing and not self._leads_on(root._slot):
                continue  # the gradient would stay where it is, and count in the next pass
            g = in_memory(g)
            core.hold(g._slot)
            self._check(core.accumulate(root._slot, g._slot))
        self._go_on(core.sweep())

    @staticmethod
    def _leads_on(slot: int) -> bool:
        """Whether a pass that captures has a use for the gradient of `slot`: it is captured, or its entry is to be visited."""
        e = core.get_field(slot, core.ENTRY)
        return bool(core.get_field(slot, core.FLAGS) & layout.CAPTURED) or (e >= 0 and core.last_mark(e + 1) == e)

    def _go_on(self, status: int) -> None:
        """From a status of the compiled sweep to its end."""
        while status:
            self._check(status)
            self.barrier(status - 1)
            core.finish_entry(status - 1)
            if not core.sweep_retain.value:
                saved.release(status - 1)
            status = core.sweep()

    def resume(self, status: int, before: int, captured=None):
        """Take over a plain pass that compiled code began: it came to a barrier, a failure, or leaves that Python must see to.

        With `captured` (slots), return their gradients.
        """
        self.capturing = captured is not None
        hooks = saved.active_hooks()
        try:
            running.append(self)
            if captured is not None:
                self._capture(captured)
            self._go_on(status)
            if captured is not None:
                result = self._collect(captured, executes=False)
                self._call_back()
                return result
            self._deposit()
            self._call_back()
        finally:
            del running[:]
            core.close_sweep(before, *self.captured_at)
            saved.put_back_hooks(hooks)

    def _call_back(self) -> None:
        for callback in self.callbacks:  # which may add more
            callback()

    def _check(self, status: int) -> None:
        if status >= 0:
            return
        if status == -3:
            raise RuntimeError(saved.FREED)
        if status == -4:
            raise saved_errors.version_error(core.error_a.value, core.error_b.value)
        from tapegrad.dispatch import raise_failed_allocation

        raise_failed_allocation()

    def _output_gradients(self, e: int) -> list:
        first, count = core.entry_field(e, core.ENTRY_INPUTS), core.entry_field(e, core.ENTRY_NOUT)
        result = []
        for k in range(count):
            slot = core.operand_slot(e, first + k)
            g = core.get_field(slot, core.COTANGENT) if slot else 0
            result.append(core.wrap(g) if g else None)
        return result

    def barrier(self, e: int) -> None:
        """Do entry `e` in Python: hooks, then its derivative."""
        self.at = e
        self._barrier(e)
        self.at = -1

    def _barrier(self, e: int) -> None:
        gs = self._output_gradients(e)
        payload = nodes.payload(e)
        if payload is not None:
            gs = [in_memory(g) for g in self._before(e, payload, gs)]
            first = core.entry_field(e, core.ENTRY_INPUTS)
            for k, g in enumerate(gs):
                slot = core.operand_slot(e, first + k)
                if slot and g is None and core.get_field(slot, core.COTANGENT):
                    core.drop(core.get_field(slot, core.COTANGENT))
                    core.set_field(slot, core.COTANGENT, 0)
                elif slot and g is not None and g._slot != core.get_field(slot, core.COTANGENT):
                    old = core.get_field(slot, core.COTANGENT)
                    core.hold(g._slot)
                    core.set_field(slot, core.COTANGENT, g._slot)
                    if old:
                        core.drop(old)
        op = BY_CODE[core.entry_field(e, core.ENTRY_OP)]
        compiled = isinstance(op, Elementwise) and op.result is None and gs[0] is not None
        if compiled and (payload is None or not (payload.posthooks or payload.packed)):
            status = core.sweep_elementwise(e)
            if status != -5:
                self._check(status)
                return
        gs = self.derivative(e, op, payload, gs)
        for k, g in enumerate(gs):
            if g is None:
                self._note_unmet(core.operand_slot(e, k))
            elif core.wants(e, k):
                slot = core.operand_slot(e, k)
                g = cotangent_sum(slot, g)
                core.hold(g._slot)
                self._check(core.accumulate(slot, g._slot))

    def _before(self, e, payload, gs):
        """Tensor hooks of the outputs, retained gradients, node prehooks."""
        if self.captured:
            first = core.entry_field(e, core.ENTRY_INPUTS)
            for k, g in enumerate(gs):
                slot = core.operand_slot(e, first + k)
                if slot and g is not None and core.get_field(slot, core.FLAGS) & layout.CAPTURED:
                    self.as_captured[slot] = g  # what goes on through hooks is not what the caller gets (torch's order)
        gs = [self._tensor_hooks(payload, k, g) for k, g in enumerate(gs)]
        return hooking.run_before_node(payload.prehooks, e, gs) if payload.prehooks else gs

    def _tensor_hooks(self, payload, k, g):
        """Hooks of output `k`, then its retained gradient."""
        if k in payload.hooks:
            g = hooking.run(payload.hooks[k], g)
        tensor = payload.retained[k]() if k in payload.retained else None
        if tensor is not None and g is not None:
            accumulate.retain_into(tensor, g, self.create)
        return g

    def _note_unmet(self, slot: int) -> None:
        hooked_leaf = layout.LEAF_GRAD | layout.HOOKED
        if slot and core.get_field(slot, core.FLAGS) & hooked_leaf == hooked_leaf:
            self.unmet[slot] = None

    def derivative(self, e, op, payload, gs):
        """The gradients of the inputs of entry `e`."""
        if all(g is None for g in gs) and op.name != "custom_function":  # which has a say in what that means
            result = [None] * core.entry_field(e, core.ENTRY_INPUTS)
        else:
            result = self._computed(e, op, gs)
        if payload is not None and payload.posthooks:
            places, result = nodes.edges(e), list(result)
            if not op.shows_all:  # a custom Function's are what it has returned
                for k, g in enumerate(result):
                    result[k] = cotangent_sum(core.operand_slot(e, k), g) if g is not None and core.wants(e, k) else None
            shown = [result[k] for k in places]
            for k, g in zip(places, hooking.run_on_node(payload.posthooks, shown, tuple(hooking.shown_gradients(e, gs))), strict=True):
                result[k] = g
        return result

    def _computed(self, e, op, gs) -> list | tuple:
        self._check(core.check_saved(e))
        first = core.entry_field(e, core.ENTRY_INPUTS)
        live = next(s for s in (core.operand_slot(e, first + k) for k in range(len(gs))) if s)
        entry_node = nodes.node_of(live)
        with saved.unpacked_values(e):
            if isinstance(op, Elementwise):
                return formulas.derivative(op, entry_node, gs[0])
            result = op.derivative(entry_node, *gs)
            result = result if isinstance(result, (tuple, list)) else (result,)
            return flat.with_input(e, entry_node, result) if op.flat and self.create else result

    # --- the sweep on Tensors: recorded, or watched for anomalies ---------------------------------------------------------
    def _sweep_tensors(self, roots, gradients) -> None:
        total = self.cotangents
        self.order: list[int] = []

        def add(slot, g):
            if slot in total:
                total[slot] = total[slot] + g
            else:
                total[slot] = g
                if core.get_field(slot, core.FLAGS) & layout.LEAF_GRAD and not core.get_field(slot, core.FLAGS) & layout.CAPTURED:
                    self.order.append(slot)

        for root, g in zip(roots, gradients, strict=True):
            add(root._slot, g)
        e = core.last_mark(core.entry_count.value)
        while e >= 0:
            core.sweep_entry.value = e
            first, count = core.entry_field(e, core.ENTRY_INPUTS), core.entry_field(e, core.ENTRY_NOUT)
            slots = [core.operand_slot(e, first + k) for k in range(count)]
            gs = [total.get(s) if s else None for s in slots]
            if any(g is not None for g in gs) or core.sees_nothing(e) or any(s and core.get_field(s, core.FLAGS) & layout.HOOKED for s in slots):
                for slot, g in self._evaluate(e, slots, gs):
                    add(slot, g)
                for s in slots:
                    if s and not core.get_field(s, core.FLAGS) & layout.CAPTURED:
                        total.pop(s, None)
            core.clear_mark(e)
            if not self.retain:
                core.free_saved(e)
                saved.release(e)
            e = core.last_mark(e)

    def _evaluate(self, e, slots, gs) -> list:
        """Hooks and derivative of entry `e`: the (input slot, gradient) pairs that are wanted."""
        self.at = e
        if self.anomaly:
            node = nodes.node_of(next(s for s in slots if s))
            with anomaly_mode.evaluating(node):
                found = self._evaluated(e, slots, gs)
                anomaly_mode.check_values(node.name(), found)
        else:
            found = self._evaluated(e, slots, gs)
        self.at = -1
        return [(core.operand_slot(e, k), g) for k, g in enumerate(found) if g is not None]

    def _evaluated(self, e, slots, gs) -> list:
        payload = nodes.payload(e)
        if payload is not None:
            gs = self._before(e, payload, gs)
            for s, g in zip(slots, gs, strict=True):
                if s and g is not None:
                    self.cotangents[s] = g
        op = BY_CODE[core.entry_field(e, core.ENTRY_OP)]
        found = list(enumerate(self.derivative(e, op, payload, gs)))
        for k, g in found:
            if g is None:
                self._note_unmet(core.operand_slot(e, k))
        return [cotangent_sum(core.operand_slot(e, k), g) if g is not None and core.wants(e, k) else None for k, g in found]

    # --- leaves ---------------------------------------------------------------------------------------------------------
    def _deposit(self) -> None:
        if self.in_python:
            for slot in self.order:
                self.unmet.pop(slot, None)
                accumulate.store_grad(slot, self._leaf_hooks(slot, self.cotangents[slot]), self.create)
        elif core.deposit():
            for slot in core.leaves():
                g = core.wrap(core.get_field(slot, core.COTANGENT))
                core.drop(core.get_field(slot, core.COTANGENT))
                core.set_field(slot, core.COTANGENT, 0)
                self.unmet.pop(slot, None)
                accumulate.store_grad(slot, self._leaf_hooks(slot, g), self.create)
            core.leaves_count.value = 0
        for slot in self.unmet:
            accumulate.store_grad(slot, self._leaf_hooks(slot, None), self.create)

    def _leaf_hooks(self, slot, g):
        leaf = leaf_node.leaf_object(slot)
        if leaf is None or not leaf._hooks:
            return g
        if not self.anomaly:
            return hooking.run(leaf._hooks, g)
        with anomaly_mode.evaluating(nodes.gradient_node(slot)):
            return hooking.run(leaf._hooks, g)


def call_node(node, gs) -> tuple:
    """`node(*gs)`: its derivative, apart from any backward pass and its hooks."""
    e = node._entry
    count = nodes.gradients_taken(e)
    if len(gs) != count:
        raise TypeError(f"expected {count} arguments, got {len(gs)} instead")
    gs = (*gs, *(None for _ in range(core.entry_field(e, core.ENTRY_NOUT) - count)))
    sweep = Sweep(True, modes.is_grad_enabled())
    found = [None if g is None else cotangent_sum(core.operand_slot(e, k), g) for k, g in enumerate(sweep.derivative(e, node.op, None, list(gs)))]
    return found[0] if len(found) == 1 else tuple(found)
