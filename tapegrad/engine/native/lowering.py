"""Compiling native functions: from the Python of `native/*.py` to LLVM.

The engine's functions use very little of Python: int64 and float64, pointers to rows, calls, `if`, `while`, `for ... in range`.  This
translates just that, a syntax tree at a time; numba's front end, made for much more, takes 25 ms a function, and everyone waits for all
of them at the very first start.  Variables are stack cells that LLVM turns into registers; a truth value is stored as 0 or 1; `//` and `%`
round down, as in Python.  Whatever is not in this subset is refused with the function's name and line.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types

from llvmlite import ir

from tapegrad.engine.native.pointers import BOOL, F64, I64, VOID, Cast, Primitive, Row, declared

COMPARISONS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
INTEGER = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor", ast.LShift: "shl", ast.RShift: "ashr"}
REAL = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}


def module(functions: dict[str, tuple]) -> str:
    """The LLVM module, as text, with each of {symbol: (function, result, arguments, reassociate)} as a C function."""
    target = ir.Module("engine")
    for symbol, parts in functions.items():
        _Function(target, symbol, *parts).lower()
    return str(target)


class _Function:
    """The translation of one function: values are (LLVM value, type)."""

    def __init__(self, target, symbol, function, result, arguments, reassociate):
        self.globals, self.result, self.name = function.__globals__, result, function.__name__
        self.tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        self.flags = ("contract", "reassoc", "nsz") if reassociate else ("contract",)
        kind = ir.FunctionType(result.llvm, [a.llvm for a in arguments])
        self.function = declared(target, symbol, kind)
        self.cells: dict[str, tuple] = {}
        self.loops: list[tuple] = []
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.entry = self.builder.block
        self.start = self.function.append_basic_block("start")
        self.builder.position_at_end(self.start)
        for parameter, value, type_ in zip(self.tree.args.args, self.function.args, arguments, strict=True):
            self.assign(parameter.arg, (value, type_))

    def lower(self) -> None:
        self.block(self.tree.body)
        if not self.builder.block.is_terminated:
            if self.result is VOID:
                self.builder.ret_void()
            else:
                self.builder.ret(ir.Constant(self.result.llvm, 0))
        ir.IRBuilder(self.entry).branch(self.start)

    def refuse(self, node, what: str):
        raise SyntaxError(f"{self.name}, line {getattr(node, 'lineno', '?')}: {what}: {ast.unparse(node)}")

    # --- values and variables
    def as_type(self, value, type_):
        have, kind = value
        if kind is type_ or (isinstance(kind, Row) and type_ is I64):
            return have
        if kind is BOOL and type_ is I64:
            return self.builder.zext(have, I64.llvm)
        if kind is BOOL and type_ is F64:
            return self.builder.uitofp(have, F64.llvm)
        if kind is I64 and type_ is F64:
            return self.builder.sitofp(have, F64.llvm)
        if kind is I64 and isinstance(type_, Row):
            return have
        if kind is I64 and type_ is BOOL:
            return self.truth(value)
        raise SyntaxError(f"{self.name}: a value of type {kind} where {type_} is needed")

    def truth(self, value):
        have, kind = value
        if kind is BOOL:
            return have
        if kind is F64:
            return self.builder.fcmp_unordered("!=", have, ir.Constant(F64.llvm, 0.0))
        return self.builder.icmp_signed("!=", have, ir.Constant(I64.llvm, 0))

    def cell(self, name, type_):
        """The cell of a variable; a name that stands for a row and then for something else gets another, for what follows in the text."""
        known = self.cells.get(name)
        if known is None or (known[1] is not type_ and isinstance(type_, Row) != isinstance(known[1], Row)):
            builder = ir.IRBuilder(self.entry)
            self.cells[name] = (builder.alloca(type_.llvm, name=name), type_)
        return self.cells[name]

    def assign(self, name, value) -> None:
        kind = I64 if value[1] is BOOL else value[1]
        cell, type_ = self.cell(name, kind)
        self.builder.store(self.as_type(value, type_), cell)

    # --- statements
    def block(self, statements) -> None:
        for statement in statements:
            if self.builder.block.is_terminated:
                return
            getattr(self, "do_" + type(statement).__name__, self.unknown)(statement)

    def unknown(self, node):
        self.refuse(node, "a native function cannot use this")

    def do_Expr(self, node):
        if not isinstance(node.value, ast.Constant):
            self.value(node.value)

    def do_Pass(self, node):
        pass

    def do_Assign(self, node):
        (target,) = node.targets
        if isinstance(target, ast.Tuple):
            values = [self.value(v) for v in node.value.elts]
            for name, value in zip(target.elts, values, strict=True):
                self.assign(name.id, value)
        else:
            self.store(target, self.value(node.value))

    def do_AugAssign(self, node):
        self.store(node.target, self.binary(node, node.op, self.value(_loaded(node.target)), self.value(node.value)))

    def store(self, target, value) -> None:
        if isinstance(target, ast.Name):
            self.assign(target.id, value)
        elif isinstance(target, ast.Attribute):
            row, type_ = self.value(target.value)
            type_.store(self.builder, row, target.attr, self.as_type(value, type_.field(target.attr)))
        else:
            self.refuse(target, "cannot be assigned to")

    def do_Return(self, node):
        if node.value is None or self.result is VOID:
            self.builder.ret_void()
        else:
            self.builder.ret(self.as_type(self.value(node.value), self.result))

    def do_If(self, node):
        condition = self.truth(self.value(node.test))
        then, after = self.builder.append_basic_block("then"), self.builder.append_basic_block("after")
        other = self.builder.append_basic_block("else") if node.orelse else after
        self.builder.cbranch(condition, then, other)
        for start, body in ((then, node.body), (other, node.orelse)):
            if body:
                self.builder.position_at_end(start)
                self.block(body)
                if not self.builder.block.is_terminated:
                    self.builder.branch(after)
        self.builder.position_at_end(after)

    def do_While(self, node):
        test, body, after = (self.builder.append_basic_block(n) for n in ("test", "body", "after"))
        self.builder.branch(test)
        self.builder.position_at_end(test)
        self.builder.cbranch(self.truth(self.value(node.test)), body, after)
        self.loop(node, body, test, after)

    def do_For(self, node):
        """The counter is a cell of its own: what the body does to the variable does not change the iteration."""
        bounds = [self.as_type(self.value(a), I64) for a in node.iter.args]
        start, stop, step = [ir.Constant(I64.llvm, 0), bounds[0], 1] if len(bounds) == 1 else [*bounds[:2], 1]
        if len(bounds) == 3:
            step = ast.literal_eval(node.iter.args[2])
        counter = ir.IRBuilder(self.entry).alloca(I64.llvm)
        self.builder.store(start, counter)
        test, body, advance, after = (self.builder.append_basic_block(n) for n in ("test", "body", "advance", "after"))
        self.builder.branch(test)
        self.builder.position_at_end(test)
        at = self.builder.load(counter)
        self.builder.cbranch(self.builder.icmp_signed("<" if step > 0 else ">", at, stop), body, after)
        self.builder.position_at_end(advance)
        self.builder.store(self.builder.add(self.builder.load(counter), ir.Constant(I64.llvm, step), flags=("nsw",)), counter)
        self.builder.branch(test)
        self.builder.position_at_end(body)
        self.assign(node.target.id, (at, I64))
        self.loop(node, body, advance, after)

    def loop(self, node, body, again, after) -> None:
        self.loops.append((again, after))
        self.builder.position_at_end(body)
        self.block(node.body)
        if not self.builder.block.is_terminated:
            self.builder.branch(again)
        self.loops.pop()
        self.builder.position_at_end(after)

    def do_Break(self, node):
        self.builder.branch(self.loops[-1][1])

    def do_Continue(self, node):
        self.builder.branch(self.loops[-1][0])

    # --- expressions
    def value(self, node):
        return getattr(self, "of_" + type(node).__name__, self.unknown)(node)

    def of_Constant(self, node):
        return self.constant(node, node.value)

    def constant(self, node, value):
        if isinstance(value, bool):
            return ir.Constant(BOOL.llvm, int(value)), BOOL
        if isinstance(value, int):
            return ir.Constant(I64.llvm, value), I64
        if isinstance(value, float):
            return ir.Constant(F64.llvm, value), F64
        return self.refuse(node, "not a number")

    def of_Name(self, node):
        if node.id in self.cells:
            cell, type_ = self.cells[node.id]
            return self.builder.load(cell), type_
        if node.id in self.globals:
            return self.constant(node, self.globals[node.id])
        return self.refuse(node, "used before it is assigned")

    def of_Attribute(self, node):
        if isinstance(node.value, ast.Name) and isinstance(self.globals.get(node.value.id), types.ModuleType):
            return self.constant(node, getattr(self.globals[node.value.id], node.attr))
        row, type_ = self.value(node.value)
        if not isinstance(type_, Row):
            self.refuse(node, "only rows have fields")
        return (row, I64) if node.attr == "pointer" else (type_.load(self.builder, row, node.attr), type_.field(node.attr))

    def of_UnaryOp(self, node):
        value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            return self.builder.not_(self.truth(value)), BOOL
        if isinstance(node.op, ast.USub) and value[1] is F64:
            return self.builder.fneg(value[0]), F64
        number = self.as_type(value, I64)
        return (self.builder.neg(number) if isinstance(node.op, ast.USub) else self.builder.not_(number)), I64

    def of_BinOp(self, node):
        return self.binary(node, node.op, self.value(node.left), self.value(node.right))

    def binary(self, node, op, left, right):
        kind = type(op)
        if left[1] is BOOL and right[1] is BOOL and kind in (ast.BitAnd, ast.BitOr, ast.BitXor):
            return getattr(self.builder, INTEGER[kind])(left[0], right[0]), BOOL
        if F64 in (left[1], right[1]):
            if kind not in REAL:
                self.refuse(node, "not an operation on float64")
            return getattr(self.builder, REAL[kind])(self.as_type(left, F64), self.as_type(right, F64), flags=self.flags), F64
        x, y = self.as_type(left, I64), self.as_type(right, I64)
        if kind in INTEGER:
            return getattr(self.builder, INTEGER[kind])(x, y), I64
        if kind in (ast.FloorDiv, ast.Mod):
            return self.divided(x, y, kind is ast.Mod), I64
        return self.refuse(node, "not an operation on int64")

    def divided(self, x, y, want_rest):
        zero = ir.Constant(I64.llvm, 0)
        rest = self.builder.srem(x, y)
        rounds = self.builder.and_(
            self.builder.icmp_signed("!=", rest, zero), self.builder.icmp_signed("<", self.builder.xor(rest, y), zero)
        )
        if want_rest:
            return self.builder.add(rest, self.builder.select(rounds, y, zero))
        return self.builder.sub(self.builder.sdiv(x, y), self.builder.zext(rounds, I64.llvm))

    def of_Compare(self, node):
        left, result = self.value(node.left), None
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.value(comparator)
            if F64 in (left[1], right[1]):
                compare = self.builder.fcmp_unordered if isinstance(op, ast.NotEq) else self.builder.fcmp_ordered
                holds = compare(COMPARISONS[type(op)], self.as_type(left, F64), self.as_type(right, F64))
            else:
                holds = self.builder.icmp_signed(COMPARISONS[type(op)], self.as_type(left, I64), self.as_type(right, I64))
            result = holds if result is None else self.builder.and_(result, holds)
            left = right
        return result, BOOL

    def of_BoolOp(self, node):
        """Python's: the first operand that decides, the later ones not evaluated.  A truth value if all operands are, else an int64."""
        after = self.builder.append_basic_block("decided")
        cell = ir.IRBuilder(self.entry).alloca(I64.llvm)
        kinds = set()
        for k, part in enumerate(node.values):
            value = self.value(part)
            kinds.add(value[1])
            self.builder.store(self.as_type(value, I64), cell)
            if k + 1 == len(node.values):
                self.builder.branch(after)
                break
            further = self.builder.append_basic_block("further")
            truth = self.truth(value)
            self.builder.cbranch(truth, *((further, after) if isinstance(node.op, ast.And) else (after, further)))
            self.builder.position_at_end(further)
        self.builder.position_at_end(after)
        result = self.builder.load(cell)
        return (self.truth((result, I64)), BOOL) if kinds == {BOOL} else (result, I64)

    def of_IfExp(self, node):
        condition = self.truth(self.value(node.test))
        then, other, after = (self.builder.append_basic_block(n) for n in ("then", "else", "after"))
        self.builder.cbranch(condition, then, other)
        results = []
        for start, part in ((then, node.body), (other, node.orelse)):
            self.builder.position_at_end(start)
            results.append((*self.value(part), self.builder.block))
        kind = F64 if F64 in {type_ for _, type_, _ in results} else I64
        ends = []
        for value, type_, end in results:
            self.builder.position_at_end(end)
            ends.append((self.as_type((value, type_), kind), end))
            self.builder.branch(after)
        self.builder.position_at_end(after)
        joined = self.builder.phi(kind.llvm)
        for value, end in ends:
            joined.add_incoming(value, end)
        return joined, kind

    def of_Call(self, node):
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name == "int":
            value, type_ = self.value(node.args[0])
            return (self.builder.fptosi(value, I64.llvm), I64) if type_ is F64 else (self.as_type((value, type_), I64), I64)
        target = self.globals.get(name)
        if isinstance(target, Cast):
            return self.as_type(self.value(node.args[0]), I64), target.row
        if not isinstance(target, Primitive):
            self.refuse(node, "not a native function")
        constants = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        given = [a for a in node.args if not (isinstance(a, ast.Constant) and isinstance(a.value, str))]
        if len(given) != len(target.arguments):
            self.refuse(node, f"takes {len(target.arguments)} arguments")
        arguments = [self.as_type(self.value(a), type_) for a, type_ in zip(given, target.arguments, strict=True)]
        return target.emit(self.builder, arguments, *constants), target.result


def _loaded(target):
    return ast.copy_location(ast.parse(ast.unparse(target), mode="eval").body, target)
