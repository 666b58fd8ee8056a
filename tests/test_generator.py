"""The random streams of `tapegrad.random.stream`: stored values, the state, errors, and bit-for-bit agreement with torch where installed."""

import copy
import pickle
import random
import zlib

import numpy as np
import pytest

from tapegrad.random.stream import DEFAULT_SEED, Stream

SIZES = [*range(0, 41), 100, 1000, 12345]
FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["int64", "int32", "int16", "int8", "uint8", "bool"]
SCALES = [(0.0, 1.0), (0.0, 0.02), (1.5, 3.0), (5.0, 0.0)]
BOUNDS = [(0.0, 1.0), (-0.1, 0.3), (2.0, 7.5), (3.0, 3.0)]
NAN, INF = float("nan"), float("inf")


def seeded(seed=0):
    return Stream().manual_seed(seed)


# Without torch: values and state bytes that torch 2.13 gave


@pytest.mark.parametrize(
    "draw, expected",
    [
        (lambda g: g.uniform(2), [0.49625658988952637, 0.7682217955589294]),
        (lambda g: g.uniform(2, "float64"), [0.9700530018065531, 0.707819864399788]),
        (lambda g: g.normal(3), [1.5409960746765137, -0.293428897857666, -2.1787893772125244]),
        (lambda g: g.normal(16)[[0, 7, 8, 15]], [-1.1258398294448853, -2.1152193546295166, 0.32227492332458496, -0.2472781538963318]),
        (lambda g: g.normal(17)[[0, 1, 16]], [-1.1258398294448853, -1.6959311962127686, 0.9318265914916992]),
        (lambda g: g.randint(4, 0, 10), [4, 9, 3, 0]),
        (lambda g: g.randint(2, 0, 2**40), [741280623151, 506137267392]),
        (lambda g: g.randperm(5), [4, 0, 1, 3, 2]),
        (lambda g: g.bernoulli(6, "float32", 0.5), [0, 0, 1, 0, 0, 0]),
        (lambda g: g.exponential(2, "float64"), [3.508326186707642, 1.2303847641796768]),
        (lambda g: g.multinomial(np.array([1.0, 2.0, 3.0], np.float32), 2), [2, 1]),
        (lambda g: g.multinomial(np.array([1.0, 2.0, 3.0], np.float32), 5, True), [2, 2, 1, 2, 2]),
    ],
)
def test_stored_values(draw, expected):
    assert draw(seeded()).tolist() == expected


def test_stored_state():
    g = seeded(3)
    g.normal(3)  # leaves half a pair
    assert zlib.crc32(g.get_state().tobytes()) == 3748557049


def test_seeds():
    assert Stream().initial_seed() == DEFAULT_SEED
    assert seeded(-1).initial_seed() == 2**64 - 1
    assert seeded(2**64 - 1).uniform(3).tolist() == seeded(-1).uniform(3).tolist()
    assert seeded(np.int64(7)).initial_seed() == 7
    g = Stream()
    assert g.seed() == g.initial_seed() != Stream().seed()


@pytest.mark.parametrize("before", [0, 1, 3, 623, 624, 625])
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g)), lambda g: Stream().set_state(g.get_state())])
def test_state_continues_the_stream(before, clone):
    g = seeded(5)
    g.uniform(before)
    g.normal(3)
    twin = clone(g)
    for _ in range(2):
        assert g.normal(3).tolist() == twin.normal(3).tolist()
    assert g.uniform(700).tolist() == twin.uniform(700).tolist()
    assert g.initial_seed() == twin.initial_seed()


def test_empty_draws_leave_the_state():
    g = seeded()
    g.normal(1)
    state = g.get_state().tobytes()
    for draw in (g.uniform, g.normal, g.exponential, g.cauchy, g.log_normal, g.randperm, g.random):
        assert draw(0).shape == (0,)
    assert g.get_state().tobytes() == state


def weights(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda g: g.manual_seed(1.5), RuntimeError, "manual_seed expected a long, but got float"),
        (lambda g: g.manual_seed(2**64), ValueError, "Overflow when unpacking long long"),
        (lambda g: g.set_state(3), TypeError, "expected a torch.ByteTensor, but got int"),
        (lambda g: g.set_state(np.zeros(5056)), TypeError, "RNG state must be a torch.ByteTensor"),
        (lambda g: g.set_state(np.zeros(5056, np.uint8)), RuntimeError, "Invalid mt19937 state"),
        (
            lambda g: g.set_state(np.zeros(10, np.uint8)),
            RuntimeError,
            "Expected a CPUGeneratorImplState of size 5056 but found the input RNG state size to be 10",
        ),
        (
            lambda g: g.uniform(3, "float32", 1.23456789, -1e10),
            RuntimeError,
            "uniform_ expects to return a [from, to) range, but found from=1.23457 > to=-1e+10",
        ),
        (lambda g: g.uniform(3, "float32", 0.0, 1e39), RuntimeError, "to is out of bounds for float"),
        (lambda g: g.uniform(3, "float16", -1e5, 1.0), RuntimeError, "from is out of bounds for c10::Half"),
        (
            lambda g: g.uniform(3, "float32", -3e38, 3e38),
            RuntimeError,
            "uniform_ expects to-from <= std::numeric_limits<Float>::max(), but found to=3e+38 and from=-3e+38 "
            "which result in to-from to exceed the limit",
        ),
        (lambda g: g.uniform(3, "int64"), NotImplementedError, "\"check_uniform_bounds\" not implemented for 'Long'"),
        (lambda g: g.normal(3, "float32", 0, -1), RuntimeError, "normal expects std >= 0.0, but found std -1"),
        (lambda g: g.normal(3, "float32", 0.0, NAN), RuntimeError, "normal expects std >= 0.0, but found std nan"),
        (lambda g: g.normal(3, "int64"), NotImplementedError, "\"normal_kernel_cpu\" not implemented for 'Long'"),
        (lambda g: g.exponential(3, "float32", 0), RuntimeError, "exponential_ expects lambda > 0.0, but found lambda=0"),
        (
            lambda g: g.exponential(3, "int64"),
            RuntimeError,
            "Exponential distribution is a continuous probability distribution. dtype must be a floating point but you specified Long",
        ),
        (lambda g: g.geometric(3, "float32", 1.0), RuntimeError, "geometric_ expects p to be in (0, 1), but got p=1"),
        (lambda g: g.geometric(3, "bool", 0.5), NotImplementedError, "\"geometric_cpu\" not implemented for 'Bool'"),
        (lambda g: g.log_normal(3, "float32", 0.0, 0.0), RuntimeError, "log_normal_ expects std > 0.0, but found std=0"),
        (lambda g: g.cauchy(3, "float32", 0.0, 0.0), RuntimeError, "cauchy_ expects sigma > 0.0, but found sigma=0"),
        (
            lambda g: g.cauchy(3, "int64"),
            RuntimeError,
            "Cauchy distribution is a continuous probability distribution. dtype must be a floating point but you specified long int",
        ),
        (lambda g: g.bernoulli(3, "float32", 1.5), RuntimeError, "bernoulli_ expects p to be in [0, 1], but got p=1.5"),
        (
            lambda g: g.bernoulli_array(weights(0.5, 1.5), "float32"),
            RuntimeError,
            "Expected p_in >= 0 && p_in <= 1 to be true, but got false.  "
            "(Could this error message be improved?  If so, please report an enhancement request to PyTorch.)",
        ),
        (lambda g: g.randint(3, 5, 3), RuntimeError, "random_ expects 'from' to be less than 'to', but got from=5 >= to=3"),
        (lambda g: g.randint(3, 0, 300, "uint8"), RuntimeError, "to - 1 is out of bounds for unsigned char"),
        (lambda g: g.randint(3, -1, 3, "uint8"), RuntimeError, "from is out of bounds for unsigned char"),
        (lambda g: g.randint(3, 0, 2**63), ValueError, "Overflow when unpacking long long"),
        (
            lambda g: g.randint(3, -(2**63), None, "int32"),
            RuntimeError,
            "random_full_64_bits_range_kernel_cpu handles only int64, double, float and bfloat16",
        ),
        (lambda g: g.randperm(-1), RuntimeError, "Trying to create tensor with negative dimension -1: [-1]"),
        (lambda g: g.randperm(300, "uint8"), RuntimeError, "value cannot be converted to type uint8_t without overflow"),
        (lambda g: g.randperm(2**24 + 2, "float32"), RuntimeError, "n cannot be greater than 2^24+1 for Float type."),
        (lambda g: g.randperm(3, "bool"), NotImplementedError, "\"randperm\" not implemented for 'Bool'"),
        (lambda g: g.multinomial(np.ones((2, 2, 2)), 1), RuntimeError, "prob_dist must be 1 or 2 dim"),
        (lambda g: g.multinomial(np.ones(3, int), 1), RuntimeError, "multinomial only supports floating-point dtypes for input, got: Long"),
        (lambda g: g.multinomial(weights(1, 1), 0), RuntimeError, "cannot sample n_sample <= 0 samples"),
        (
            lambda g: g.multinomial(weights(1, 1), 3),
            RuntimeError,
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement",
        ),
        (lambda g: g.multinomial(weights(-1, 2), 1), RuntimeError, "probability tensor contains either `inf`, `nan` or element < 0"),
        (lambda g: g.multinomial(weights(NAN, 2), 2), RuntimeError, "probability tensor contains either `inf`, `nan` or element < 0"),
        (
            lambda g: g.multinomial(weights(-1, 2), 2, True),
            RuntimeError,
            "invalid multinomial distribution (encountering probability entry < 0)",
        ),
        (
            lambda g: g.multinomial(weights(INF, 2), 2, True),
            RuntimeError,
            "invalid multinomial distribution (encountering probability entry = infinity or NaN)",
        ),
        (lambda g: g.multinomial(weights(0, 0), 1), RuntimeError, "invalid multinomial distribution (sum of probabilities <= 0)"),
        (lambda g: g.multinomial(weights(0, 0), 2, True), RuntimeError, "invalid multinomial distribution (sum of probabilities <= 0)"),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind) as caught:
        call(seeded())
    assert type(caught.value) is kind and str(caught.value) == text


def test_wide_float_range_warns():
    with pytest.warns(UserWarning, match=r"^to - 1 is out of bounds \[-\(2\^24\), 2\^24\]\. Due to precision limitations float can"):
        seeded().randint(3, 0, 2**30, "float32")


# Against torch, bit for bit


class Pair:
    """Our generator and torch's, seeded alike."""

    def __init__(self, seed=0):
        self.torch = pytest.importorskip("torch")
        self.ours = seeded(seed)
        self.theirs = self.torch.Generator()
        self.theirs.manual_seed(seed)
        self.torch.manual_seed(seed)  # of the operands

    def empty(self, n, dtype):
        return self.torch.empty(n, dtype=getattr(self.torch, dtype))

    def same(self, ours, theirs):
        theirs = theirs.numpy()
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.flags.c_contiguous and ours.tobytes() == np.ascontiguousarray(theirs).tobytes()

    def same_state(self):
        assert self.ours.get_state().tobytes() == self.theirs.get_state().numpy().tobytes()


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32, 2**40 + 5, 2**64 - 1, -1, -(2**63)])
def test_seeds_match(seed):
    pair = Pair(seed)
    assert pair.ours.initial_seed() == pair.theirs.initial_seed()
    pair.same_state()
    pair.same(pair.ours.uniform(1500), pair.torch.rand(1500, generator=pair.theirs))
    pair.same_state()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("mean, std", SCALES)
def test_normal_matches(dtype, mean, std):
    pair = Pair(1)
    for n in SIZES:
        pair.same(pair.ours.normal(n, dtype, mean, std), pair.empty(n, dtype).normal_(mean, std, generator=pair.theirs))
        strided = pair.empty((n, 2), dtype)[:, 0].normal_(mean, std, generator=pair.theirs)
        pair.same(pair.ours.normal(n, dtype, mean, std, contiguous=n < 2), strided)
        pair.same_state()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("low, high", BOUNDS)
def test_uniform_matches(dtype, low, high):
    pair = Pair(2)
    for n in SIZES:
        pair.same(pair.ours.uniform(n, dtype, low, high), pair.empty(n, dtype).uniform_(low, high, generator=pair.theirs))
    pair.same_state()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["exponential", "cauchy", "log_normal"])
def test_continuous_match(dtype, name):
    pair = Pair(3)
    arguments = [(1.0,), (0.3,), (7.1,)] if name == "exponential" else [(0.0, 1.0), (1.5, 3.0), (-0.3, 0.7)]
    for n in SIZES:
        for given in arguments:
            ours = getattr(pair.ours, name)(n, dtype, *given)
            pair.same(ours, getattr(pair.empty(n, dtype), name + "_")(*given, generator=pair.theirs))
    pair.same_state()


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.filterwarnings("ignore:.*out of bounds")
def test_integers_match(dtype):
    pair = Pair(4)
    wide = [(0, 2**28 - 1), (0, 2**28), (-(2**31), 2**31 - 1), (0, 2**40), (-(2**62), 2**62), (-(2**63), 2**63 - 1), (2**24, 2**24 + 1)]
    ranges = [(0, 2), *([(0, 10), (3, 127)] if dtype != "bool" else []), *(wide if dtype in ("int64", "float32", "float64") else [])]
    for n in SIZES:
        for low, high in ranges:
            pair.same(pair.ours.randint(n, low, high, dtype), pair.empty(n, dtype).random_(low, high, generator=pair.theirs))
        pair.same(pair.ours.randint(n, 1, None, dtype), pair.empty(n, dtype).random_(1, None, generator=pair.theirs))
        pair.same(pair.ours.random(n, dtype), pair.empty(n, dtype).random_(generator=pair.theirs))
        for p in (0.0, 0.3, 1.0):
            pair.same(pair.ours.bernoulli(n, dtype, p), pair.empty(n, dtype).bernoulli_(p, generator=pair.theirs))
        if dtype != "bool":
            pair.same(pair.ours.geometric(n, dtype, 0.3), pair.empty(n, dtype).geometric_(0.3, generator=pair.theirs))
    pair.same_state()


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "float32", "float64"])
def test_randperm_matches(dtype):
    pair = Pair(5)
    kind = getattr(pair.torch, dtype)
    for n in [*SIZES, *([70000] if dtype == "int64" else [])]:
        pair.same(pair.ours.randperm(n, dtype), pair.torch.randperm(n, dtype=kind, generator=pair.theirs))
    pair.same_state()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_match(dtype):
    pair = Pair(6)
    torch, kind = pair.torch, getattr(pair.torch, dtype)
    for n in SIZES:
        p = torch.rand(n, dtype=kind)
        pair.same(pair.ours.bernoulli_array(p.numpy(), dtype), torch.bernoulli(p, generator=pair.theirs))
    pair.same_state()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_matches(dtype, replacement):
    pair = Pair(7)
    torch = pair.torch
    for n in SIZES[1:]:
        for shape in ((n,), (4, n)):
            w = torch.rand(shape, dtype=getattr(torch, dtype)) + 0.01
            for k in {1, 2, 30, n} if replacement else {1, (min(n, 60) + 1) // 2, min(n, 60)}:  # few, as equal ratios fall in any order
                ours = pair.ours.multinomial(w.numpy(), k, replacement)
                pair.same(ours, torch.multinomial(w, k, replacement, generator=pair.theirs))
    pair.same_state()


@pytest.mark.parametrize("seed", range(20))
def test_interleaved_draws_match(seed):
    pair = Pair(seed)
    torch, theirs, choose = pair.torch, pair.theirs, random.Random(seed)
    names = ["normal", "uniform", "log_normal", "randperm"]
    for _ in range(40):
        n, dtype, name = choose.choice(SIZES), choose.choice(["float32", "float64"]), choose.choice(names)
        if name == "randperm":
            pair.same(pair.ours.randperm(n), torch.randperm(n, generator=theirs))
        else:
            pair.same(getattr(pair.ours, name)(n, dtype), getattr(pair.empty(n, dtype), name + "_")(generator=theirs))
        if choose.random() < 0.2:
            pair.same_state()
            pair.ours = Stream().set_state(theirs.get_state().numpy())
            theirs.set_state(torch.from_numpy(pair.ours.get_state()))
