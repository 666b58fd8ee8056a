"""A line search for the strong Wolfe conditions: bracket a point, then zoom in (Nocedal and Wright, alg. 3.5 and 3.6)."""

from __future__ import annotations

import math


def cubic_minimum(x1, f1, g1, x2, f2, g2, bounds=None) -> float:
    """The minimum of the cubic with these values and slopes, within the bounds; their middle if there is none."""
    low, high = bounds if bounds is not None else ((x1, x2) if x1 <= x2 else (x2, x1))
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    if not square >= 0:
        return (low + high) / 2.0
    d2 = math.sqrt(square)
    if x1 <= x2:
        found = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
    else:
        found = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2))
    return min(max(found, low), high)


def strong_wolfe(evaluate, t, direction, f, g, slope, c1=1e-4, c2=0.9, tolerance=1e-9, max_evaluations=25):
    """(loss, gradient, distance, number of evaluations) of a point along `direction`; evaluate(distance) gives loss and gradient."""
    length = direction.abs().max().item()
    f_new, g_new = evaluate(t)
    evaluations, tries = 1, 0
    slope_new = g_new.dot(direction).item()
    before = (0, f, g.clone(), slope)
    bracket, done = None, False
    while tries < max_evaluations:
        point = (t, f_new, g_new.clone(), slope_new)
        if f_new > f + c1 * t * slope or (tries > 1 and f_new >= before[1]):
            bracket = [before, point]
            break
        if abs(slope_new) <= -c2 * slope:
            bracket, done = [point], True
            break
        if slope_new >= 0:
            bracket = [before, point]
            break
        bounds = (t + 0.01 * (t - before[0]), t * 10)
        t, before = cubic_minimum(before[0], before[1], before[3], t, f_new, slope_new, bounds), point
        f_new, g_new = evaluate(t)
        evaluations += 1
        slope_new = g_new.dot(direction).item()
        tries += 1
    if bracket is None:
        bracket = [(0, f, g, slope), (t, f_new, g_new, slope_new)]
    low, high = (0, -1) if bracket[0][1] <= bracket[-1][1] else (-1, 0)
    if len(bracket) == 2:
        low, high = low % 2, high % 2
    stuck = False
    while not done and tries < max_evaluations:
        ends = [p[0] for p in bracket]
        if abs(ends[1] - ends[0]) * length < tolerance:
            break
        (x1, f1, _, s1), (x2, f2, _, s2) = bracket
        t = cubic_minimum(x1, f1, s1, x2, f2, s2)
        # Not too close to an end, or the bracket would not shrink.
        margin = 0.1 * (max(ends) - min(ends))
        if min(max(ends) - t, t - min(ends)) < margin:
            if stuck or t >= max(ends) or t <= min(ends):
                t = max(ends) - margin if abs(t - max(ends)) < abs(t - min(ends)) else min(ends) + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        f_new, g_new = evaluate(t)
        evaluations += 1
        slope_new = g_new.dot(direction).item()
        tries += 1
        point = (t, f_new, g_new.clone(), slope_new)
        if f_new > f + c1 * t * slope or f_new >= bracket[low][1]:
            bracket[high] = point
            low, high = (0, 1) if bracket[0][1] <= bracket[1][1] else (1, 0)
        else:
            if abs(slope_new) <= -c2 * slope:
                done = True
            elif slope_new * (bracket[high][0] - bracket[low][0]) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = point
    t, f_new, g_new, _ = bracket[low]
    return f_new, g_new, t, evaluations
