"""Parameter: a leaf tensor that modules recognise."""

from __future__ import annotations

from tapegrad.tensor import Tensor


class Parameter(Tensor):
    """A tensor that is a module's parameter when assigned to it; requires grad by default."""

    __module__ = "tapegrad.nn.parameter"
    __slots__ = ()

    def __new__(cls, data=None, requires_grad=True):
        from tapegrad import core, creation
        from tapegrad.engine import layout

        if data is None:
            data = creation.empty(0)
        self = Tensor.__new__(cls)
        source = data.detach()
        core.move_handle(self, core.share_slot(source))
        core.set_field(self._slot, core.FLAGS, core.get_field(source._slot, core.FLAGS) & layout.INFERENCE)
        if requires_grad:
            self.requires_grad_()
        return self

    def __init__(self, data=None, requires_grad=True):
        pass

    def __repr__(self):
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo):
        copy = type(self)(self.detach().clone(), self.requires_grad)
        memo[id(self)] = copy
        return copy
