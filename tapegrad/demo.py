"""The demo: hares and lynxes in Canada, 1900-1920, fitted by maximum likelihood.

The predator-prey model of Lotka and Volterra,

    du/dt = (alpha - beta v) u        hares
    dv/dt = (-gamma + delta u) v      lynxes

is integrated by a Runge-Kutta method that is a plain Python loop over tensors, and compared with the pelts that the Hudson's Bay Company
counted (Hewitt 1921; Howard 2009), with log-normal errors.  The eight unknowns are found by Adam, then by SciPy's BFGS; standard errors
come from the Hessian, by differentiating the gradient once more.  Start reading at `negative_log_likelihood`.

`negative_log_likelihood` takes the library as its argument `m`: the same lines run under tapegrad and under torch.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path

import numpy as np
from scipy import optimize

import tapegrad as tg

NAMES = ("alpha", "beta", "gamma", "delta", "hare(1900)", "lynx(1900)", "sigma hare", "sigma lynx")
# Posterior means of the same model with weakly informative priors (posteriordb, hudson_lynx_hare-lotka_volterra).
PUBLISHED = (0.547, 0.0277, 0.800, 0.0241, 34.0, 5.94, 0.248, 0.251)
STEPS = 10  # Runge-Kutta steps per year: within 2e-6 of an adaptive solver with a tolerance of 1e-11


# --- the model ------------------------------------------------------------------------------------------------------
def load() -> tuple[list[int], list[list[float]]]:
    """The years and, per year, the pelts of hares and lynxes in thousands."""
    with open(Path(__file__).parent / "data" / "hudson_lynx_hare.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [int(row["year"]) for row in rows], [[float(row["hare_thousands"]), float(row["lynx_thousands"])] for row in rows]


def trajectory(m, rates, start, years: int, steps: int = STEPS):
    """The populations at the end of each year, the first one included: (years + 1, 2).  The classical Runge-Kutta method."""
    alpha, beta, gamma, delta = rates
    h = 1.0 / steps

    def slope(u, v):
        return (alpha - beta * v) * u, (delta * u - gamma) * v

    u, v = start
    states = [u, v]
    for _ in range(years):
        for _ in range(steps):
            a1, b1 = slope(u, v)
            a2, b2 = slope(u + h / 2 * a1, v + h / 2 * b1)
            a3, b3 = slope(u + h / 2 * a2, v + h / 2 * b2)
            a4, b4 = slope(u + h * a3, v + h * b3)
            u = u + h / 6 * (a1 + 2 * (a2 + a3) + a4)
            v = v + h / 6 * (b1 + 2 * (b2 + b3) + b4)
        states += [u, v]
    return m.stack(states).reshape(years + 1, 2)


def negative_log_likelihood(m, theta, log_counts, steps: int = STEPS):
    """Minus the log-likelihood, up to a constant: the sum of log(sigma) + ((log y - log u) / sigma)^2 / 2 over the counts `y`.

    theta: the logarithms of the eight parameters, (8,), so that every value is allowed.  log_counts: (years, 2).
    """
    count = log_counts.shape[0]
    p = m.exp(theta)
    populations = trajectory(m, p[:4].unbind(), p[4:6].unbind(), count - 1, steps)
    residuals = (log_counts - m.log(populations)) / p[6:]
    return count * theta[6:].sum() + 0.5 * (residuals**2).sum()


def first_guess(counts) -> list[float]:
    """Rough parameters: the average counts are near the equilibrium gamma/delta, alpha/beta, and the period of ten years is
    near 2 pi / sqrt(alpha gamma)."""
    hare, lynx = np.mean(counts, axis=0)
    rate = 2 * np.pi / 10
    return [rate, rate / lynx, rate, rate / hare, *counts[0], 0.5, 0.5]


# --- fitting --------------------------------------------------------------------------------------------------------
def adam(loss, theta, iterations: int = 150, rate: float = 0.03, betas=(0.9, 0.999), epsilon: float = 1e-8, report=print) -> None:
    """Minimise `loss(theta)` in place (Kingma & Ba 2015, algorithm 1)."""
    first, second = tg.zeros_like(theta), tg.zeros_like(theta)
    for step in range(1, iterations + 1):
        value = loss(theta)
        theta.grad = None
        value.backward()
        with tg.no_grad():
            g = theta.grad
            first.mul_(betas[0]).add_(g, alpha=1 - betas[0])
            second.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
            spread = (second / (1 - betas[1] ** step)).sqrt() + epsilon
            theta.sub_(first / spread, alpha=rate / (1 - betas[0] ** step))
        if step == 1 or step % 25 == 0:
            report(f"  Adam {step:4d}   loss {value.item():10.4f}   |gradient| {g.norm().item():9.3f}")


def quasi_newton(loss, theta, report=print):
    """Minimise `loss(theta)` with SciPy's BFGS, which is given value and gradient as NumPy arrays; returns SciPy's result."""

    def value_and_gradient(point):
        x = tg.tensor(point, dtype=tg.float64, requires_grad=True)
        value = loss(x)
        (gradient,) = tg.autograd.grad(value, x)
        return value.item(), gradient.numpy()

    result = optimize.minimize(value_and_gradient, theta.detach().numpy(), method="BFGS", jac=True, options={"gtol": 1e-6})
    report(f"  BFGS {result.nit:4d}   loss {result.fun:10.4f}   |gradient| {np.linalg.norm(result.jac):9.1e}   ({result.nfev} evaluations)")
    return result


def hessian(loss, theta):
    """The second derivatives of `loss` at `theta`: (n,) -> (n, n).  Row by row, as gradients of the gradient's elements."""
    (gradient,) = tg.autograd.grad(loss(theta), theta, create_graph=True)
    return tg.stack([tg.autograd.grad(g, theta, retain_graph=True)[0] for g in gradient])


def milliseconds_per_gradient(m, theta, log_counts, repeats: int) -> float:
    """The median time of one forward and backward pass under the library `m`."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        m.autograd.grad(negative_log_likelihood(m, theta, log_counts), theta)
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


# --- telling --------------------------------------------------------------------------------------------------------
def compare_with_torch(point, counts, value: float, own_gradient, own: float, report=print) -> None:
    """Run the same function under torch, if it is installed: the same value, and how long it takes."""
    try:
        import torch
    except ImportError:
        report("  torch is not installed: nothing to compare with")
        return
    torch.set_num_threads(1)
    theta = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    log_counts = torch.log(torch.tensor(counts, dtype=torch.float64))
    loss = negative_log_likelihood(torch, theta, log_counts)
    (gradient,) = torch.autograd.grad(loss, theta)
    if abs(loss.item() - value) > 1e-9 * abs(value) or not np.allclose(gradient.numpy(), own_gradient, rtol=1e-6, atol=1e-6):
        report("  torch finds another value or gradient: please report this as a bug of tapegrad")
        return
    theirs = milliseconds_per_gradient(torch, theta, log_counts, repeats=9)
    report(f"  {'torch ' + torch.__version__:24s}{theirs:8.2f} ms   the same value and gradient; tapegrad is {theirs / own:.1f} times as fast")


def save_picture(path: Path, years, counts, times, fitted) -> bool:
    """Draw counts and fit; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for k, (name, colour) in enumerate((("hare", "tab:blue"), ("lynx", "tab:red"))):
        axes.plot(times, fitted[:, k], color=colour, label=f"{name}, fitted")
        axes.plot(years, [row[k] for row in counts], "o", color=colour, label=f"{name}, counted")
    axes.set(xlabel="year", ylabel="pelts (thousands)", title="Hudson's Bay Company, 1900-1920", xticks=years[::4])
    figure.legend(loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True


def run(save: str | Path | None = "lynx_hare.png", report=print) -> dict[str, float]:
    """Fit the model, report on it line by line, and return the estimates by name."""
    years, counts = load()
    steps = STEPS * (len(years) - 1)
    report(f"Hares and lynxes, {years[0]}-{years[-1]}: {2 * len(years)} counts, {len(NAMES)} parameters, {steps} Runge-Kutta steps")

    begin = time.perf_counter()
    log_counts = tg.log(tg.tensor(counts, dtype=tg.float64))

    def loss(theta):
        return negative_log_likelihood(tg, theta, log_counts)

    theta = tg.log(tg.tensor(first_guess(counts), dtype=tg.float64)).requires_grad_()
    loss(theta).backward()
    report(f"  first gradient after {time.perf_counter() - begin:.2f} s (what the cache does not hold yet is compiled)")
    begin = time.perf_counter()
    adam(loss, theta, report=report)
    result = quasi_newton(loss, theta, report=report)
    report(f"  fitted in {time.perf_counter() - begin:.2f} s")

    theta = tg.tensor(result.x, dtype=tg.float64, requires_grad=True)
    estimates = tg.exp(theta).detach().numpy()
    # The delta method: p = exp(theta), so the standard error of p is p times that of theta.
    errors = estimates * np.sqrt(np.diag(np.linalg.inv(hessian(loss, theta).numpy())))
    report("")
    report(f"  {'':12s}{'estimate':>10s}{'std. error':>12s}   published posterior mean")
    for name, estimate, error, published in zip(NAMES, estimates, errors, PUBLISHED, strict=True):
        report(f"  {name:12s}{estimate:10.5g}{error:12.2g}   {published:g}")
    report(f"  negative log-likelihood {result.fun:.4f} (up to a constant)")
    report("")

    if save is not None:
        with tg.no_grad():
            p = tg.tensor(estimates, dtype=tg.float64)
            # Ten points a year: a "year" of a tenth, at a tenth of the rates.
            fitted = trajectory(tg, (p[:4] / 10).unbind(), p[4:6].unbind(), 10 * (len(years) - 1), steps=1).numpy()
        times = np.linspace(years[0], years[-1], len(fitted))
        drawn = save_picture(Path(save), years, counts, times, fitted)
        report(f"  picture saved to {save}" if drawn else "  no picture: matplotlib is not installed")

    own = milliseconds_per_gradient(tg, theta, log_counts, repeats=21)
    report("  time per gradient")
    report(f"  {'tapegrad ' + tg.__version__:24s}{own:8.2f} ms")
    compare_with_torch(result.x, counts, result.fun, result.jac, own, report=report)  # last: importing torch takes longer than the fit
    return dict(zip(NAMES, estimates.tolist(), strict=True))


def main(arguments: argparse.Namespace) -> int:
    run(save=None if arguments.no_plot else arguments.save)
    return 0
