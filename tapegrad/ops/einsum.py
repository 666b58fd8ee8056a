"""Einstein summation, by batched matrix products of pairs of operands."""

from __future__ import annotations

import functools
import math
import string

from tapegrad.engine.bind import Handle
from tapegrad.naming import type_name
from tapegrad.ops.public import function


@function()
def einsum(*args):
    """Einstein summation: `einsum("ij,jk->ik", a, b)`, or `einsum(a, [0, 1], b, [1, 2], [0, 2])`.  Products of pairs from left to right.

    Letters of `a-zA-Z` name dims, `...` any others; a letter that stands twice in one operand takes its diagonal.  Without `->` the output has the
    letters that occur once, in order.

    >>> einsum("ii", tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(5.)
    """
    if len(args) < 2:
        raise ValueError(
            "einsum(): must specify the equation string and at least one operand, or at least one operand and its subscripts list"
        )
    if isinstance(args[0], Handle):
        equation, operands = _from_lists(args)
    else:
        equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        return einsum(equation, *operands[0])
    if type(equation) is not str:
        raise TypeError(f"einsum(): argument 'equation' (position 1) must be str, not {type_name(equation)}")
    for k, x in enumerate(operands):
        if not isinstance(x, Handle):
            raise TypeError(f"expected Tensor as element {k} in argument 1, but got {type_name(x)}")
    if len(operands) == 2 and operands[0].dtype is operands[1].dtype and operands[0].dtype.category:
        found = _plain_product(equation, *(tuple(x.shape) for x in operands))
        if found is not None:
            return _run_product(found, *operands)
    named, output = _named(equation, operands)
    term, x = _summed(*named[0], {t for other, _ in named[1:] for t in other} | set(output))
    for k in range(1, len(named)):
        later = {t for other, _ in named[k + 1 :] for t in other} | set(output)
        term, x = _pair((term, x), _summed(*named[k], later | set(term)), later)
    order = [term.index(t) for t in output]
    return x if order == sorted(order) and x is not named[0][1] else x.permute(order)


def _from_lists(args):
    """The equation and operands of `einsum(a, [0, 1], b, [1, 2], [0, 2])`."""

    def letter(n) -> str:
        if n is Ellipsis:
            return "..."
        if not 0 <= n < 52:
            raise ValueError("einsum(): subscript in subscript list is not within the valid range [0, 52)")
        return string.ascii_letters[(n + 26) % 52]  # capitals first

    spell = lambda subscripts: "".join(map(letter, subscripts))
    equation = ",".join(map(spell, args[1::2]))
    return (f"{equation}->{spell(args[-1])}", args[:-1:2]) if len(args) % 2 else (equation, args[::2])


def _letters(text: str, start: int, what: str, taken: str) -> list[str]:
    """The letters of a term that begins at `start` of the equation, `\0` for an ellipsis; `what` names it in errors."""
    letters: list[str] = []
    k = 0
    while k < len(text):
        c = text[k]
        if c == ".":
            if "\0" in letters:
                raise RuntimeError(f"einsum(): found '.' for {what} {taken} was already found")
            if text[k : k + 3] != "...":
                raise RuntimeError(f"einsum(): found '.' for {what} that is not part of any ellipsis{' (...)' if what == 'output' else ''}")
            letters.append("\0")
            k += 2
        elif c.isascii() and c.isalpha():
            letters.append(c)
        elif c != " ":
            raise RuntimeError(
                f"einsum(): invalid subscript given at index {start + k} in the equation string, subscripts must be in [a-zA-Z]"
            )
        k += 1
    return letters


def _named(equation: str, operands):
    """Pairs of (letters, operand), where no letter stands twice, and the letters of the output.  The dims of an ellipsis are letters too."""
    left, arrow, right = equation.partition("->")
    terms: list[list[str]] = []
    start = 0
    for text in left.split(","):
        if len(terms) == len(operands):
            raise RuntimeError("einsum(): fewer operands were provided than specified in the equation")
        terms.append(_letters(text, start, f"operand {len(terms)}", "for which an ellipsis"))
        start += len(text) + 1
    if len(terms) < len(operands):
        raise RuntimeError("einsum(): more operands were provided than specified in the equation")
    most = 0
    for k, (term, x) in enumerate(zip(terms, operands, strict=True)):
        free = "\0" in term
        if len(term) - free > x.ndim or not free and len(term) != x.ndim:
            differ = "is more than" if free else "does not match"
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({len(term) - free}) {differ} the number of dimensions ({x.ndim}) for operand "
                f"{k}{'' if free else ' and no ellipsis was given'}"
            )
        most = max(most, free * (x.ndim - len(term) + 1))
    ellipsis = [chr(0x100 + k) for k in range(most)]
    full = lambda term, size: [c for t in term for c in (ellipsis[most - size :] if t == "\0" else [t])]
    terms = [full(term, x.ndim - len(term) + 1) for term, x in zip(terms, operands, strict=True)]
    every = [t for term in terms for t in term]
    output = full(_letters(right, len(left) + 2, "output", "but an ellipsis (...)"), most)
    if not arrow:
        output = ellipsis + sorted(t for t in {*every} - {*ellipsis} if every.count(t) == 1)
    for k, letter in enumerate(output):
        if letter in output[:k]:
            raise RuntimeError(f"einsum(): output subscript {letter} appears more than once in the output")
        if letter not in every and letter not in ellipsis:
            raise RuntimeError(f"einsum(): output subscript {letter} does not appear in the equation for any input operand")
    named = [_diagonals(term, x, k) for k, (term, x) in enumerate(zip(terms, operands, strict=True))]
    _check_sizes(named, ellipsis)
    return named, output


def _diagonals(term, x, operand: int):
    """The diagonals that repeated letters ask for."""
    while len(set(term)) != len(term):
        letter = next(t for t in term if term.count(t) > 1)
        first = term.index(letter)
        second = term.index(letter, first + 1)
        if x.shape[first] != x.shape[second]:
            raise RuntimeError(
                f"einsum(): subscript {letter} is repeated for operand {operand} but the sizes don't match, {x.shape[second]} != {x.shape[first]}"
            )
        x = x.diagonal(0, first, second)
        term = [t for k, t in enumerate(term) if k not in (first, second)] + [letter]
    return term, x


def _check_sizes(named, ellipsis) -> None:
    sizes: dict[str, int] = {}
    for operand, (term, x) in enumerate(named):
        for letter, size in zip(term, x.shape, strict=True):
            seen = sizes.get(letter, 1)
            if size != seen and 1 not in (size, seen):
                if letter in ellipsis:
                    raise RuntimeError(
                        f"einsum(): dimension {term.index(letter)} covered by ellipsis in operand {operand}has size {size} which does not broadcast with "
                        f"previously seen ellipsis with size {seen} for the respective dimension"
                    )
                raise RuntimeError(
                    f"einsum(): subscript {letter} has size {size} for operand {operand} which does not broadcast with previously seen size {seen}"
                )
            sizes[letter] = size if seen == 1 else seen


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
        x = a.reshape((*a.shape, *[1] * len(sr))) * b.reshape((*b.shape[: len(batch)], *[1] * len(sl), *b.shape[len(batch) :]))
        return [*batch, *own_l, *own_r], x
    a = a.expand((*sb, *sl, *ss)).reshape(math.prod(sb), math.prod(sl), math.prod(ss))
    b = b.expand((*sb, *ss, *sr)).reshape(math.prod(sb), math.prod(ss), math.prod(sr))
    return [*batch, *own_l, *own_r], a.bmm(b).reshape((*sb, *sl, *sr))
