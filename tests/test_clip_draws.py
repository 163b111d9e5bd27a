"""The random numbers of clips: a hash of seed, purpose and position alone, which passes for random."""

import math

import pytest
import torch
from torch import Tensor

from wav2vec2.modeling import random_draws
from wav2vec2.modeling.random_draws import ClipDraws, Purpose, choose_draws, exponential, for_purpose, uniform

MASK_32, MASK_64 = 2**32 - 1, 2**64 - 1
SEEDS = [0, 1, 2, -1, 12345678901234567, 2**63 - 1, -(2**63)]


def slow_splitmix(x: int) -> int:
    """SplitMix64's finaliser, on integers of any size."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK_64
    return x ^ (x >> 31)


def slow_number(seed: int, purpose: int, call: int, position: int) -> int:
    """One number of 32 bits."""
    key = slow_splitmix((slow_splitmix(seed & MASK_64) + ((purpose << 16) + call) * 0x9E3779B9) & MASK_64)
    first, second = key >> 32, (key - 2**31) & MASK_32
    x = position ^ first
    x = ((x ^ (x >> 16)) * 0x7FEB352D + second) & MASK_32
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK_32
    return x ^ (x >> 16)


def device_or_skip(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(name)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_numbers_are_the_hash(device: str) -> None:
    """Bit for bit on every device: at all seeds, purposes, calls and positions of any number of dimensions."""
    seeds = torch.tensor(SEEDS, device=device_or_skip(device))
    for purpose in (0, *Purpose):
        draws = ClipDraws(seeds, purpose)
        for call in range(3):
            found = draws.integers(len(SEEDS), 4, 2, 3).cpu().flatten(1)
            expected = [[slow_number(seed, purpose, call, n) for n in range(24)] for seed in SEEDS]
            assert torch.equal(found.long() & MASK_32, torch.tensor(expected))
    found = ClipDraws(seeds).uniform(len(SEEDS), 50).cpu()
    top = [[slow_number(seed, 0, 0, n) for n in range(50)] for seed in SEEDS]
    assert torch.equal(found.double(), ((torch.tensor(top) ^ 2**31) >> 8).double() / 2**24)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_exponential_numbers_follow_from_the_same_bits(device: str) -> None:
    draws = ClipDraws(torch.arange(3, device=device_or_skip(device)), 4)
    found = draws.exponential(3, 1000).cpu()
    level = [[(slow_number(seed, 4, 0, n) % 2**31 + 0.5) / 2**31 for n in range(1000)] for seed in range(3)]
    share_below = -torch.expm1(-found.double())
    torch.testing.assert_close(share_below, torch.tensor(level, dtype=torch.float64), atol=0, rtol=2**-22)


def test_the_rarest_bits_have_finite_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither 0 nor infinity, of which one logarithm more would make a choice that nothing could change."""
    bits = torch.tensor([[0, 1, 2**31 - 1, 2**31 - 2, -1, -2, -(2**31)]], dtype=torch.int32)
    monkeypatch.setattr(ClipDraws, "integers", lambda *_: bits.clone())
    draws = ClipDraws(torch.tensor([0]))
    noise = -draws.exponential(1, 7).log()
    assert bool(noise.isfinite().all())
    assert float(noise.max()) == pytest.approx(32 * math.log(2))  # the largest of 2^31 equally likely ones
    numbers = draws.uniform(1, 7)
    assert float(numbers.min()) == 0.0
    assert float(numbers.max()) == 1 - 2**-24


def test_a_clip_draws_the_same_in_any_batch() -> None:
    """Alone and among others, in any order, padded to any number of frames."""
    whole = ClipDraws(torch.tensor([5, 6, 7])).uniform(3, 40, 2, 3)
    for row, frames in ((0, 40), (1, 17), (2, 1)):
        alone = ClipDraws(torch.tensor([5 + row])).uniform(1, frames, 2, 3)
        assert torch.equal(alone[0], whole[row, :frames])
    assert torch.equal(ClipDraws(torch.tensor([7, 5])).uniform(2, 40, 2, 3), whole[[2, 0]])
    assert ClipDraws(torch.tensor([5])).uniform(1, 0, 3).shape == (1, 0, 3)


def chi_square(values: Tensor, bins: int) -> float:
    """(chi-square - degrees of freedom) / its standard deviation, for whole numbers that should be uniform in bins."""
    counts = torch.bincount(values.flatten(), minlength=bins).double()
    assert len(counts) == bins
    expected = values.numel() / bins
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return (statistic - (bins - 1)) / math.sqrt(2 * (bins - 1))


def correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's, in units of its standard deviation for independent numbers."""
    return float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]).double())[0, 1]) * math.sqrt(x.numel())


def test_numbers_are_uniform() -> None:
    """Mean, variance, and the shares of 256 bins by the highest, the middle and the lowest of the 24 bits; over many
    positions of one clip, and over many clips at one position, with neighbouring seeds."""
    for numbers in (ClipDraws(torch.tensor([3])).uniform(1, 2**18), ClipDraws(torch.arange(2**18)).uniform(2**18, 1)):
        assert abs(float(numbers.double().mean()) - 0.5) < 4 / math.sqrt(12 * 2**18)
        assert float(numbers.double().var()) == pytest.approx(1 / 12, rel=0.01)
        levels = (numbers.double() * 2**24).long()
        assert bool((levels == numbers.double() * 2**24).all())
        for shift in (0, 8, 16):
            assert abs(chi_square((levels >> shift) & 255, 256)) < 4


def test_pairs_of_numbers_are_uniform() -> None:
    """Neighbouring positions, seeds, purposes and calls: all 16 x 16 pairs of bins alike, and no correlation."""
    seeds = torch.arange(512)
    draws = ClipDraws(seeds, 1)
    numbers = draws.uniform(512, 512)
    others = {
        "position": (numbers[:, :-1], numbers[:, 1:]),
        "two positions on": (numbers[:, :-2], numbers[:, 2:]),
        "seed": (numbers[:-1], numbers[1:]),
        "seed of a power of two": (numbers[:256], numbers[256:]),
        "call": (numbers, draws.uniform(512, 512)),
        "purpose": (numbers, ClipDraws(seeds, 2).uniform(512, 512)),
        "call and purpose": (ClipDraws(seeds, 2).uniform(512, 512), draws.uniform(512, 512)),
    }
    for name, (x, y) in others.items():
        assert abs(correlation(x, y)) < 4, name
        assert abs(chi_square((x * 16).long() * 16 + (y * 16).long(), 256)) < 4, name


def test_every_bit_of_the_seed_reaches_every_bit_of_the_number() -> None:
    """One bit of the seed turned: each bit of the number turns in half of the cases."""
    seeds = torch.randint(-(2**62), 2**62, (2000,), generator=torch.Generator().manual_seed(0))
    before = ClipDraws(seeds).integers(2000, 1)
    for bit in range(64):
        turned = seeds ^ (1 << bit if bit < 63 else -(2**63))
        difference = before ^ ClipDraws(turned).integers(2000, 1)
        shares = torch.stack([(difference >> place) & 1 for place in range(32)]).double().mean(dim=(1, 2))
        assert float((shares - 0.5).abs().max()) < 5 * 0.5 / math.sqrt(2000)


def test_gumbel_noise_has_its_moments() -> None:
    """Mean: Euler's constant. Variance: pi^2 / 6. And P(noise < 3) = exp(-exp(-3))."""
    noise = -ClipDraws(torch.arange(16)).exponential(16, 2**14).double().log()
    assert float(noise.mean()) == pytest.approx(0.5772157, abs=4 * 1.29 / 2**9)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, rel=0.02)
    assert float((noise < 3).double().mean()) == pytest.approx(math.exp(-math.exp(-3)), abs=4 * 0.22 / 2**9)


# torch's own tracer instantiates torch.autograd.Function to look at it, and torch warns of that
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_draws_compile_into_one_graph() -> None:
    """One graph for all sizes, with the numbers that are drawn without it."""

    def draw(seeds: Tensor, like: Tensor) -> list[Tensor]:
        draws = choose_draws(None, seeds, like.device)
        return [
            uniform(*like.shape, device=like.device, draws=draws),
            exponential(like, for_purpose(draws, Purpose.GUMBEL_NOISE)),
            uniform(*like.shape, device=like.device, draws=draws),
        ]

    torch._dynamo.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        fast = torch.compile(draw, fullgraph=True, dynamic=True, backend="aot_eager")
        for clips, frames in ((3, 20), (5, 31)):
            seeds, like = torch.arange(clips) + 9, torch.empty(clips, frames, 2, 4)
            torch.testing.assert_close(fast(seeds, like), draw(seeds, like), atol=0, rtol=0)
    torch._dynamo.reset()


def test_a_generator_draws_what_torch_draws() -> None:
    like, seeded = torch.empty(2, 5), torch.Generator()
    numbers = uniform(2, 5, device=like.device, draws=seeded.manual_seed(1))
    assert torch.equal(numbers, torch.rand(2, 5, generator=seeded.manual_seed(1)))
    assert for_purpose(seeded, Purpose.TIME_MASK) is seeded
    found = exponential(like.double(), seeded.manual_seed(1))
    assert torch.equal(found, torch.empty(2, 5).double().exponential_(generator=seeded.manual_seed(1)))


def test_seeds_that_fit_no_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="clip_seeds has 2 seeds: must be one for each of 3 clips"):
        ClipDraws(torch.tensor([1, 2])).uniform(3, 4)
    for seeds in (torch.tensor([1.0]), torch.tensor([[1]]), torch.tensor(1)):
        with pytest.raises(ValueError, match="clip_seeds has shape .* must be one integer per clip"):
            ClipDraws(seeds)
    with pytest.raises(ValueError, match="generator and clip_seeds would decide the same numbers"):
        choose_draws(torch.Generator(), torch.tensor([1]), torch.device("cpu"))
    assert random_draws.choose_draws(None, None, torch.device("cpu")) is None
