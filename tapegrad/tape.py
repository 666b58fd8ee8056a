"""The tape as text: what has been recorded and is still alive, one numbered statement per entry."""

from __future__ import annotations

from typing import Any

from tapegrad import core, geometry
from tapegrad.autograd import anomaly_mode
from tapegrad.autograd import node as nodes
from tapegrad.dtypes import OF_SLOT
from tapegrad.engine import layout
from tapegrad.ops.registry import BY_CODE as OPS


class Tape:
    """A look at the tape as it is now: `len(tape)`, and `print(tape)` shows its statements.

    >>> import tapegrad as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> y = (x * x).sum()
    >>> len(tg.Tape()) >= 2
    True
    """

    def __len__(self) -> int:
        return core.entry_live.value

    def statements(self) -> list[str]:
        """One line per live entry: position, outputs, op, operands (those saved for the derivative marked with *)."""
        core.start()
        rows = core.entry_view()
        result = []
        for e, row in enumerate(rows):
            flags = int(row["flags"])
            if not flags & layout.ALIVE:
                continue
            inputs, outputs = int(row["inputs"]), int(row["nout"])
            names = [self._operand(e, k, flags) for k in range(inputs + outputs)]
            op: Any = OPS[int(row["op"])]
            freed = "  (saved values freed)" if flags & layout.FREED else ""
            line = anomaly_mode.line_of(e)
            at = f"  at {line}" if line else ""
            result.append(f"{e:6d}: {', '.join(names[inputs:])} = {op.name}({', '.join(names[:inputs])})  # {nodes.entry_name(e)}{freed}{at}")
        return result

    @staticmethod
    def _operand(e: int, k: int, flags: int) -> str:
        slot = core.operand_slot(e, k)
        if not slot:
            return "dead"
        saved = "*" if flags & layout.SAVED_ALL or (k < 24 and flags & layout.SAVED_INPUT << k) else ""
        shape = "x".join(map(str, geometry.shapes[core.get_field(slot, core.GEOMETRY)]))
        leaf = "leaf " if core.get_field(slot, core.FLAGS) & layout.LEAF_GRAD else ""
        return f"{saved}{leaf}s{slot}:{OF_SLOT[core.get_field(slot, core.DTYPE)].name}[{shape}]"

    def __str__(self) -> str:
        return "\n".join(self.statements()) or "(the tape is empty)"

    __repr__ = __str__
