"""Einstein summation, by batched matrix products of pairs of operands."""

from __future__ import annotations

import functools
import math

from tapegrad.engine.bind import Handle
from tapegrad.ops.public import function


@function()
def einsum(equation, *operands):
    """Einstein summation: `einsum("ij,jk->ik", a, b)`.  Products of pairs from left to right."""
    operands = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], (tuple, list)) else list(operands)
    if not operands:
        raise ValueError(
            "einsum(): must specify the equation string and at least one operand, or at least one operand and its subscripts list"
        )
    if len(operands) == 2 and type(equation) is str and all(isinstance(x, Handle) for x in operands):
        found = _plain_product(equation, *(tuple(x.shape) for x in operands))
        if found is not None:
            return _run_product(found, *operands)
    text = equation.replace(" ", "")
    for k, c in enumerate(equation):
        if not (c.isalpha() and c.isascii()) and c not in ".,-> ":
            raise RuntimeError(f"einsum(): invalid subscript given at index {k} in the equation string, subscripts must be in [a-zA-Z]")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise RuntimeError(
            f"einsum(): {'more' if len(operands) > len(terms) else 'fewer'} operands were provided than specified in the equation"
        )
    most = max((x.ndim - len(t.replace("...", "")) for t, x in zip(terms, operands, strict=True) if "..." in t), default=0)
    ellipsis = [chr(0x100 + k) for k in range(most)]
    named = []
    for term, x in zip(terms, operands, strict=True):
        free = x.ndim - len(term.replace("...", ""))
        term = list(term.replace("...", "\0"))
        term = [c for t in term for c in (ellipsis[most - free :] if t == "\0" else [t])]
        if len(term) != x.ndim:
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({len(term)}) does not match the number of dimensions ({x.ndim}) for operand "
                f"{len(named)} and no ellipsis was given"
            )
        while len(set(term)) != len(term):  # a repeated letter is a diagonal
            letter = next(t for t in term if term.count(t) > 1)
            first = term.index(letter)
            second = term.index(letter, first + 1)
            x = x.diagonal(0, first, second)
            term = [t for k, t in enumerate(term) if k not in (first, second)] + [letter]
        named.append((term, x))
    if arrow:
        output = [c for t in right.replace("...", "\0") for c in (ellipsis if t == "\0" else [t])]
    else:
        flat = [t for term, _ in named for t in term]
        output = ellipsis + sorted(t for t in set(flat) if flat.count(t) == 1 and t not in ellipsis)
    for letter in output:
        if output.count(letter) > 1:
            raise RuntimeError(f"einsum(): output subscript {letter} appears more than once in the output")
        if not any(letter in term for term, _ in named):
            raise RuntimeError(f"einsum(): output subscript {letter} does not appear in the equation for any input operand")
    sizes: dict[str, int] = {}
    for operand, (term, x) in enumerate(named):
        for letter, size in zip(term, x.shape, strict=True):
            if sizes.get(letter, 1) not in (1, size) and size != 1:
                raise RuntimeError(
                    f"einsum(): subscript {letter} has size {size} for operand {operand} which does not broadcast with previously seen size "
                    f"{sizes[letter]}"
                )
            sizes[letter] = max(sizes.get(letter, 1), size)
    term, x = _summed(*named[0], {t for other, _ in named[1:] for t in other} | set(output))
    for k in range(1, len(named)):
        later = {t for other, _ in named[k + 1 :] for t in other} | set(output)
        term, x = _pair((term, x), _summed(*named[k], later | set(term)), later)
    order = [term.index(t) for t in output]
    return x if order == sorted(order) and x is not named[0][1] else x.permute(order)


@functools.lru_cache(4096)
def _plain_product(equation: str, *shapes: tuple):
    """What `_pair` does with two operands of these shapes: how each is turned and seen, the shape of the result and how that is turned.

    None unless every letter stands once in a term, for one size, and is in the other term or the output, and one is summed over.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    letters = left.replace(",", "") + right
    if not arrow or not (letters.isalpha() and letters.isascii()) or [*map(len, terms)] != [*map(len, shapes)]:
        return None
    lt, rt = terms
    sizes = dict(zip(lt + rt, (*shapes[0], *shapes[1]), strict=True))
    once = all(len({*t}) == len(t) for t in (lt, rt, right)) and [sizes[t] for t in lt] == [*shapes[0]]
    if not once or not {*right} <= {*lt, *rt} or not {*lt} ^ {*rt} <= {*right}:
        return None
    shared = [t for t in lt if t in rt]
    batch, summed = [t for t in shared if t in right], [t for t in shared if t not in right]
    own_l, own_r = [t for t in lt if t not in rt], [t for t in rt if t not in lt]
    if not summed:
        return None
    b, s, n, m = (math.prod(sizes[t] for t in group) for group in (batch, summed, own_l, own_r))
    turn = lambda term, group: tuple(term.index(t) for t in group)  # noqa: E731
    made = [*batch, *own_l, *own_r]
    head = (b,) if batch else ()
    return (turn(lt, (*batch, *own_l, *summed)), (*head, n, s), turn(rt, (*batch, *summed, *own_r)), (*head, s, m), tuple(sizes[t] for t in made),
            turn(made, right))


def _run_product(how: tuple, a, b):
    turn_a, shape_a, turn_b, shape_b, shape, order = how
    a, b = a.permute(turn_a).reshape(shape_a), b.permute(turn_b).reshape(shape_b)
    x = (a.bmm(b) if len(shape_a) == 3 else a.mm(b)).reshape(shape)
    return x if order == tuple(sorted(order)) else x.permute(order)


def _summed(term, x, wanted):
    """Sum over letters that nobody else has."""
    dims = [k for k, t in enumerate(term) if t not in wanted]
    return ([t for t in term if t in wanted], x.sum(tuple(dims))) if dims else (term, x)


def _pair(left, right, wanted):
    """The product of two operands as one batched matrix product."""
    (lt, a), (rt, b) = left, right
    shared = [t for t in lt if t in rt]
    batch = [t for t in shared if t in wanted]
    summed = [t for t in shared if t not in wanted]
    own_l, own_r = [t for t in lt if t not in rt], [t for t in rt if t not in lt]
    size = lambda letters, term, x: [x.shape[term.index(t)] for t in letters]
    a = a.permute([lt.index(t) for t in (*batch, *own_l, *summed)])
    b = b.permute([rt.index(t) for t in (*batch, *summed, *own_r)])
    sb = [max(p, q) for p, q in zip(size(batch, lt, left[1]), size(batch, rt, right[1]), strict=True)]
    ss = [max(p, q) for p, q in zip(size(summed, lt, left[1]), size(summed, rt, right[1]), strict=True)]
    sl, sr = size(own_l, lt, left[1]), size(own_r, rt, right[1])
    if not summed:
        x = a.reshape(*a.shape, *[1] * len(sr)) * b.reshape(*b.shape[: len(batch)], *[1] * len(sl), *b.shape[len(batch) :])
        return [*batch, *own_l, *own_r], x
    count = lambda sizes: functools.reduce(lambda p, q: p * q, sizes, 1)
    a = a.expand(*sb, *sl, *ss).reshape(count(sb), count(sl), count(ss))
    b = b.expand(*sb, *ss, *sr).reshape(count(sb), count(ss), count(sr))
    x = (a.bmm(b) if batch else a.squeeze(0).mm(b.squeeze(0))).reshape(*sb, *sl, *sr)
    return [*batch, *own_l, *own_r], x
