"""Convolutions over time and over images, against torch's and against themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from linear_plant import QUICK, normal_rows, series, with_gaps
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from vae_anomaly import VAEDetector
from vae_anomaly.errors import ConfigError, InputError
from vae_anomaly.images import as_images, as_rows
from vae_anomaly.models.convolutions import (
    PIECE,
    ImageDecoder,
    ImageEncoder,
    TemporalDecoder,
    TemporalEncoder,
    taps,
)
from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.networks import Backbone, Shape, Sizes, decoder_network, encoder_network
from vae_anomaly.models.standardize import Batch, Scaling, Series, fit_standardizer, take, windowed
from vae_anomaly.models.training import seeded
from vae_anomaly.models.variants import VARIANTS, Gaussian
from vae_anomaly.scoring.bands import ExpectedBand, expected_band
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.scorer import BLOCK_ROWS, Scorer
from vae_anomaly.scoring.scores import SCORES, score_name
from vae_anomaly.scoring.specification import build_scorer, scorer_spec

windows = pytest.mark.parametrize(
    ("window", "hidden"),
    [(8, (16, 8, 4)), (60, (12, 6)), (5, ()), (7, (4,)), (3, (4,) * 3), (17, (5, 33)), (2, (8, 8))],
)
images = pytest.mark.parametrize(
    ("image", "hidden"),
    [
        ((1, 28, 28), (8, 16)),
        ((1, 8, 8), (8, 16, 32, 64)),
        ((3, 5, 12), (10,)),
        ((2, 1, 9), (4, 4)),
        ((1, 7, 3), (3, 17)),
        ((1, 6, 6), ()),
    ],
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def windows_of(rows: torch.Tensor, window: int) -> torch.Tensor:
    """All windows of a series (T, d), oldest row first: (T - w + 1, w * d)."""
    return torch.stack([rows[i : i + window].flatten() for i in range(len(rows) - window + 1)])


def temporal(window: int, hidden: tuple[int, ...], *, d: int = 3, c: int = 2) -> TemporalEncoder:
    with seeded(0):
        return TemporalEncoder(d, window, c, n_out=8, hidden=hidden).eval()


# --------------------------------------------------------------------------------- against torch


def test_temporal_encoder_is_torchs_dilated_convolution() -> None:
    """Two layers of three taps see nine rows, as two dilated convolutions of torch do."""
    own, rows, context = temporal(9, (5, 4)), noise(40, 3), noise(40, 2, seed=1)
    lower, top = own.layers[0], own.top
    kernel = lower.weight.reshape(5, 3, 3).transpose(1, 2)
    a = functional.silu(functional.conv1d(rows.T[None], kernel, lower.bias))
    kernel = top.weight[:, :-2].reshape(4, 3, 5).transpose(1, 2)
    a = functional.conv1d(a, kernel, top.bias, dilation=3)[0].T
    expected = own.out(a + context[8:] @ top.weight[:, -2:].T)
    assert_allclose(own(windows_of(rows, 9), context[8:]).detach(), expected.detach(), atol=1e-5)


def test_temporal_decoder_is_torchs_transposed_convolution() -> None:
    with seeded(0):
        own = TemporalDecoder(3, 9, 0, latent_dim=4, n_out=2 * 27, hidden=(5, 6)).eval()
    z = noise(7, 4)
    a = own.top(z)[..., None]
    for layer, width, places in zip(own.layers, (5, 6), (1, 3), strict=True):
        kernel = layer.weight.reshape(3, width, -1).permute(2, 1, 0)
        bias = layer.bias.reshape(3, width).T.repeat(1, places)
        a = functional.conv_transpose1d(functional.silu(a), kernel, stride=3) + bias
    mean, scale = a.reshape(7, 2, 3, 9).unbind(1)
    got = own(z, noise(7, 0)).chunk(2, dim=-1)
    for part, expected in zip(got, (mean, scale), strict=True):
        assert_allclose(part.detach(), expected.transpose(1, 2).flatten(1).detach(), atol=1e-5)


@windows
def test_one_pass_over_a_series_equals_window_by_window(
    window: int, hidden: tuple[int, ...]
) -> None:
    own, rows, context = temporal(window, hidden), noise(200, 3), noise(200, 2, seed=1)
    alone = own(windows_of(rows, window), context[window - 1 :])
    assert_allclose(own.over(rows, context).detach(), alone.detach(), atol=1e-5)


def test_posteriors_of_a_series_are_those_of_its_windows() -> None:
    sizes = Sizes(Shape(3, 1, 60), 4, (16, 16), "temporal")
    with seeded(0):
        encoder = GaussianEncoder(sizes).eval()
    rows, context = noise(500, 3), noise(500, 1, seed=1)
    whole, parts = encoder.over(rows, context), encoder(windows_of(rows, 60), context[59:])
    assert_allclose(whole.mean.detach(), parts.mean.detach(), atol=1e-5)
    assert_allclose(whole.stddev.detach(), parts.stddev.detach(), rtol=1e-5)


@windows
def test_every_row_of_a_window_is_seen_and_made(window: int, hidden: tuple[int, ...]) -> None:
    x = noise(1, window * 3).requires_grad_()
    temporal(window, hidden)(x, noise(1, 2)).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()
    with seeded(0):
        decoder = TemporalDecoder(3, window, 0, latent_dim=2, n_out=3 * window, hidden=hidden)
    one, other = decoder(noise(2, 2), noise(2, 0))
    assert (one != other).all()


def test_what_a_decoder_hands_down_is_what_the_encoder_gathers() -> None:
    """The mirror: of a linear layer without weights, one is the transpose of the other."""
    window, hidden = 7, (1, 1)
    with seeded(0):
        encoder = TemporalEncoder(1, window, 0, n_out=1, hidden=hidden)
        decoder = TemporalDecoder(1, window, 0, latent_dim=1, n_out=window, hidden=hidden)
    for module in (encoder, decoder):
        for name, parameter in module.named_parameters():
            nn.init.constant_(parameter, 1.0 if name.endswith("weight") else 0.0)
    ones, none = torch.ones(1, 1), torch.zeros(1, 0)
    assert encoder.offsets == ((0, 1, 2), (0, 3, 4))
    reads = [sum(a + b == row for a in (0, 1, 2) for b in (0, 3, 4)) for row in range(window)]
    assert reads == [1, 1, 1, 1, 2, 2, 1]
    unit = functional.silu(functional.silu(ones))  # two bends above the rows
    assert_allclose(decoder(ones, none).detach(), unit * torch.tensor([reads]), rtol=1e-6)


@given(window=st.integers(1, 300), n_layers=st.integers(1, 6))
def test_taps_cover_the_window_and_no_more(window: int, n_layers: int) -> None:
    layers = taps(window, n_layers)
    seen = {0}
    for offsets in layers:
        assert offsets[0] == 0
        assert list(offsets) == sorted(set(offsets))
        seen = {a + b for a in seen for b in offsets}
    assert seen == set(range(window))
    assert len(layers) == n_layers


# -------------------------------------------------------------------------------------- images


@images
@pytest.mark.parametrize("n_context", [0, 2])
def test_image_networks_have_the_shapes_that_they_say(
    image: tuple[int, ...], hidden: tuple[int, ...], n_context: int
) -> None:
    size = math.prod(image)
    encoder = ImageEncoder(image, n_context, n_out=8, hidden=hidden)
    decoder = ImageDecoder(image, n_context, latent_dim=4, n_out=2 * size, hidden=hidden)
    for lead in ((5,), (2, 5), (0,)):
        context = noise(*lead, n_context)
        assert encoder(noise(*lead, size), context).shape == (*lead, 8)
        assert decoder(noise(*lead, 4), context).shape == (*lead, 2 * size)
    samples = decoder(noise(3, 5, 4), noise(5, n_context))  # (s, n, k) beside one context a row
    assert samples.shape == (3, 5, 2 * size)


@images
def test_every_pixel_is_seen_and_made(image: tuple[int, ...], hidden: tuple[int, ...]) -> None:
    size = math.prod(image)
    with seeded(0):
        encoder = ImageEncoder(image, 0, n_out=8, hidden=hidden)
        decoder = ImageDecoder(image, 0, latent_dim=4, n_out=size, hidden=hidden)
    x = noise(1, size).requires_grad_()
    encoder(x, noise(1, 0)).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()
    one, other = decoder(noise(2, 4), noise(2, 0))
    assert (one != other).all()


def test_decoder_keeps_an_image_where_it_is() -> None:
    """The mirror halves and doubles without a shift: kernels that sum give back a box in place."""
    image, hidden = (1, 12, 20), (1,)
    encoder = ImageEncoder(image, 0, n_out=1, hidden=hidden)
    decoder = ImageDecoder(image, 0, latent_dim=1, n_out=240, hidden=hidden)
    down, up = encoder.layers[0], decoder.layers[1]
    for layer in (down, up):
        nn.init.constant_(layer.weight, 1.0)
        nn.init.constant_(layer.bias, 0.0)
    x = torch.zeros(1, 1, 12, 20)
    x[..., 4:6, 10:12] = 1.0
    blurred = up(down(x))[0, 0].detach()
    rows, columns = blurred.sum(1).double(), blurred.sum(0).double()
    assert_allclose((rows @ torch.arange(12.0).double()) / rows.sum(), 4.5)
    assert_allclose((columns @ torch.arange(20.0).double()) / columns.sum(), 10.5)


def test_images_of_a_window_are_channels_of_one() -> None:
    sizes = Sizes(Shape(8, window=3), 2, (4,), "image", (2, 2, 2))
    assert encoder_network(sizes, 5)(noise(7, 24), noise(7, 0)).shape == (7, 5)
    assert decoder_network(sizes, 48)(noise(7, 2), noise(7, 0)).shape == (7, 48)


def test_images_become_rows_and_come_back() -> None:
    given = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert np.array_equal(as_images(as_rows(given), (3, 4, 5)), given)
    assert np.array_equal(as_rows(given[:, 0]), as_rows(given[:, :1]))
    with pytest.raises(InputError, match=r"images have shape \(2, 60\)"):
        as_rows(as_rows(given))
    with pytest.raises(InputError, match="whose product is the number of columns"):
        as_images(as_rows(given), (1, 4, 5))


# ---------------------------------------------------------------------------- one row, one score


def networks(backbone: Backbone, shape: Shape, image: tuple[int, ...], hidden: tuple[int, ...]):
    sizes = Sizes(shape, 3, hidden, backbone, image)
    with seeded(0):
        return (
            encoder_network(sizes, 6).eval(),
            decoder_network(sizes, 2 * shape.n_features).eval(),
        )


@pytest.mark.parametrize(
    ("shape", "image", "hidden"),
    [
        (Shape(3, 2, 60), (), (12, 6)),
        (Shape(3, 2, 5), (), ()),
        (Shape(3, 2, 17), (), (5, 33)),
        (Shape(3, 2, 8), (), (64, 64)),
        *(
            (Shape(math.prod(image), c), image, hidden)
            for c, image, hidden in (
                (0, (1, 28, 28), (8, 16)),
                (2, (1, 8, 8), (16, 32)),
                (0, (3, 5, 12), (10,)),
                (1, (1, 7, 3), (3, 17)),
            )
        ),
    ],
)  # fmt: skip
@torch.no_grad()
def test_rows_come_out_the_same_wherever_they_stand(
    shape: Shape, image: tuple[int, ...], hidden: tuple[int, ...]
) -> None:
    order = torch.randperm(BLOCK_ROWS, generator=torch.Generator().manual_seed(0))
    backbone: Backbone = "image" if image else "temporal"
    context = noise(BLOCK_ROWS, shape.n_context)
    for network, width in zip(
        networks(backbone, shape, image, hidden), (shape.n_features, 3), strict=True
    ):
        a = noise(BLOCK_ROWS, width, seed=1)
        whole = network(a, context)
        assert torch.equal(network(a[order], context[order]), whole[order])
        others = torch.cat([a[:100], torch.zeros_like(a[100:])])
        assert torch.equal(network(others, context)[:100], whole[:100])


def scorer_of(variant: Gaussian, rows: np.ndarray, window: int) -> Scorer:
    few = QUICK.model_copy(update={"min_steps": 20, "max_steps": 20})
    return fit_scorer(
        series(rows), series(rows[:200]), n_context=0, variant=variant, training=few,
        window=window, seed=0,
    ).scorer  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["temporal", "image"])
def test_series_cut_anywhere_score_the_same_to_the_last_bit(kind: Backbone) -> None:
    if kind == "temporal":
        rows, window = normal_rows(1500, 0), 20
        variant = Gaussian(hidden=(16, 8), backbone="temporal")
    else:
        rows, window = load_digits().data[:1500].astype(np.float64), 1
        variant = Gaussian(hidden=(8, 16), backbone="image", image=(1, 8, 8), scaling=(0, 16))
    scorer = scorer_of(variant, rows, window)
    some = series(rows, runs=(1100, 1, 3, 30, len(rows) - 1134))
    whole = scorer(some.rows, some.run)
    cuts = [0, 1, 333, 1024, 1100, 1102, 1133, 1499, 1500]
    for start, stop in pairwise(cuts):
        first = max(0, start - scorer.left_context)
        run = torch.minimum(some.run[first:stop], torch.arange(stop - first))
        part = scorer(some.rows[first:stop], run)
        for got, expected in zip(part, whole, strict=True):
            assert torch.equal(got[start - first :], expected[start:stop]), (start, stop)
    rebuilt = build_scorer(scorer_spec(scorer))
    rebuilt.load_state_dict(scorer.state_dict())
    assert torch.equal(rebuilt(some.rows, some.run)[0], whole[0])


def test_gradient_reaches_every_parameter() -> None:
    for backbone, shape, image in (
        ("temporal", Shape(3, 1, 10), ()),
        ("image", Shape(60, 1), (1, 6, 10)),
    ):
        variant = Gaussian(backbone=backbone, image=image, hidden=(8, 8))
        rows = torch.cat([noise(50, shape.n_features), noise(50, 1)], dim=1)
        module = variant.build(shape)
        p = module.likelihood(noise(50, module.noise_dim), rows[:, -1:])
        q = module.encoder(rows[:, :-1], rows[:, -1:])
        (p.log_prob(rows[:, :-1]).sum() + q.mean.sum() + q.stddev.sum()).backward()
        for path, parameter in module.named_parameters():
            assert parameter.grad is not None, path
            assert (parameter.grad != 0).any(), path


# ------------------------------------------------------------------------------ as a user runs it


@pytest.mark.slow
def test_detector_of_images_finds_what_is_upside_down() -> None:
    digits = load_digits()
    normal = digits.images[np.isin(digits.target, (4, 7))]
    odd = digits.images[np.isin(digits.target, (4, 7))][:60, ::-1]
    variant = Gaussian(backbone="image", image=(1, 8, 8), hidden=(16, 32), scaling=(0, 16))
    detector = VAEDetector(variant, training=QUICK, random_state=0, false_alarm_rate=0.05)
    detector.fit(as_rows(normal[60:]))
    seen, turned = (detector.score_samples(as_rows(part)) for part in (normal[:60], odd))
    assert np.median(turned) < np.quantile(seen, 0.25)


@pytest.mark.parametrize(
    ("shape", "settings", "says"),
    [
        (Shape(6), {"backbone": "temporal"}, "needs a window of at least 2 rows"),
        (Shape(60), {"backbone": "image", "image": (1, 8, 8)}, "makes 64 values.* 60 sensors"),
        (Shape(60), {"backbone": "image"}, r"give \(channels, height, width\)"),
        (Shape(64), {"image": (1, 8, 8)}, "has no use with backbone 'mlp'"),
    ],
)
def test_backbones_that_do_not_fit_are_refused(
    shape: Shape, settings: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        Gaussian(**settings).build(shape)  # type: ignore[arg-type]


def test_outputs_that_do_not_divide_are_refused() -> None:
    sizes = Sizes(Shape(3, window=4), 2, (8,), "temporal")
    with pytest.raises(ConfigError, match="13 outputs do not divide by 12 features"):
        decoder_network(sizes, 13)


def test_only_temporal_encoders_pass_over_a_series() -> None:
    with pytest.raises(InputError, match="only backbone 'temporal' passes over a series"):
        GaussianEncoder(Sizes(Shape(3, window=4), 2, ())).over(noise(9, 3), noise(9, 0))
    encoder = GaussianEncoder(Sizes(Shape(3, window=4), 2, (), "temporal"))
    with pytest.raises(InputError, match="the series has 3 rows, and a window 4"):
        encoder.over(noise(3, 3), noise(3, 0))


# ----------------------------------------------------------------------- the members of the family


#: Members whose backbone has only one value; the test of each says so.
ONLY_PERCEPTRONS = ("linear", "ensemble")


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    ("backbone", "shape", "image"),
    [
        ("temporal", Shape(4, 1, 6, n_classes=2), ()),
        ("image", Shape(48, 1, n_classes=2), (1, 6, 8)),
    ],
)
def test_members_take_convolutions_and_score_rows_the_same_wherever_they_stand(
    name: str, backbone: Backbone, shape: Shape, image: tuple[int, ...]
) -> None:
    member = VARIANTS[name]
    if name in ONLY_PERCEPTRONS:
        pytest.skip(f"{name} has no convolutions")
    variant = member(backbone=backbone, image=image, hidden=(8, 8))  # type: ignore[call-arg]
    with seeded(0):
        module = variant.build(shape)
    x, generator = noise(BLOCK_ROWS, shape.n_features).sigmoid(), torch.Generator().manual_seed(0)
    label = torch.arange(BLOCK_ROWS) % 4 - 1
    batch = Batch(x, x.isfinite(), noise(BLOCK_ROWS, 1, seed=1), label)
    bound = variant.bound(module, batch, 1.0, generator)
    bound.mean().backward()
    assert bound.isfinite().all()
    module.eval()
    score = SCORES[member.default_score]
    order = torch.randperm(BLOCK_ROWS, generator=generator)
    with torch.no_grad():
        tensors = score.fit(module, batch, batch)
        whole = score.score(module, batch, tensors)[0]
        assert torch.equal(score.score(module, take(batch, order), tensors)[0], whole[order])
        made = module.likelihood(module.draw(noise(3, 1), generator), noise(3, 1)).mean
    assert made.shape == (3, shape.n_features)


# ------------------------------------------------------------------- a series scored in one pass


#: Rows of a window; sensors, of which the last is a code where the member knows levels; conditions.
W, D, C = 12, 4, 1


def plant_rows(n: int) -> np.ndarray:
    """Rows with gaps, of which one is missing as a whole."""
    rng = np.random.default_rng(0)
    rows = with_gaps(np.hstack([rng.normal(size=(n, D - 1)), rng.integers(0, 3, (n, 1))]))
    rows[40] = np.nan
    return np.hstack([rows, rng.normal(size=(n, C))])


def untrained(name: str, anomaly_score: str = "auto", scaling: Scaling = "range") -> Scorer:
    """A scorer of a member with a temporal backbone, of rows as `plant_rows` gives them."""
    settings = {"backbone": "temporal", "hidden": (16, 5), "scaling": scaling}
    variant = VARIANTS[name](**settings)
    levels = (0,) * (D - 1) + (3,) if variant.knows_levels else ()
    standardizer = fit_standardizer(
        torch.from_numpy(plant_rows(300)), C, scaling=variant.scaling, levels=levels
    )
    with seeded(0):
        module = variant.build(Shape(D, C, W, levels, 2 if variant.learns_labels else 0))
    windows = windowed(standardizer(torch.from_numpy(plant_rows(300))), *whole(300), W)
    with torch.no_grad():
        windows = windows._replace(label=torch.arange(300) % 4 - 1)
        variant.bound(module, windows, 1.0, torch.Generator().manual_seed(0))  # sees levels, labels
    score = SCORES[score_name(anomaly_score, variant.default_score)]
    return Scorer(
        standardizer, module.eval(), variant=variant, anomaly_score=anomaly_score,
        tensors=score.fit(module, windows, windows), window=W, levels=levels,
        n_classes=2 if variant.learns_labels else 0,
    )  # fmt: skip


def whole(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(n), torch.arange(n)


def by_windows(scorer: Scorer, some: Series, of: Callable[[Batch], torch.Tensor]) -> torch.Tensor:
    """What the module says of each row's window, copied."""
    batch, found = scorer.standardizer(some.rows), []
    for start in range(0, len(some.rows), BLOCK_ROWS):
        index = torch.arange(start, start + BLOCK_ROWS).clamp(max=len(some.rows) - 1)
        found.append(of(windowed(batch, some.run, index, W))[: len(some.rows) - start])
    return torch.cat(found)


with_layers = pytest.mark.parametrize("name", sorted(set(VARIANTS) - set(ONLY_PERCEPTRONS)))


@with_layers
@pytest.mark.parametrize(
    ("anomaly_score", "scaling"), [("auto", "range"), ("importance", "standard")]
)
@torch.no_grad()
def test_series_in_one_pass_scores_as_window_by_window_to_the_last_bit(
    name: str, anomaly_score: str, scaling: Scaling
) -> None:
    if name == "bernoulli":
        scaling = "range"  # it knows no other
    scorer = untrained(name, anomaly_score, scaling)
    some = series(plant_rows(2300), runs=(1500, 1, 2, W, 300, 485))
    tensors, module = dict(scorer.tensors.named_buffers()), scorer.module
    score_of = SCORES[scorer.anomaly_score].score
    total = by_windows(scorer, some, lambda batch: score_of(module, batch, tensors)[0])
    assert torch.equal(scorer(some.rows, some.run)[0], total)
    assert torch.equal(scorer.embed(some.rows, some.run), by_windows(scorer, some, module.embed))
    band = scorer.expected_band(some.rows, some.run)
    mean = by_windows(scorer, some, lambda batch: expected_band(module, batch).expected[:, -D:])
    sigma = by_windows(scorer, some, lambda batch: expected_band(module, batch).sigma[:, -D:])
    expected = scorer.restored_band(ExpectedBand(mean, sigma))
    assert torch.equal(band.expected, expected.expected)
    assert torch.equal(band.sigma, expected.sigma)
    assert torch.equal(scorer.expected(some.rows, some.run), expected.expected)


@with_layers
def test_encoder_takes_the_rows_of_a_series_once(name: str) -> None:
    """Windows of 12 rows take three places of the lowest layer each, and a series one a row."""
    scorer, counts = untrained(name), []
    for module in scorer.modules():
        if isinstance(module, TemporalEncoder):
            counts.append(count := [0])
            module.layers[0].register_forward_pre_hook(
                lambda _, given, count=count: count.__setitem__(0, count[0] + len(given[0]))
            )
    some = series(plant_rows(2 * BLOCK_ROWS), runs=(1800, 2 * BLOCK_ROWS - 1800))
    scorer.embed(some.rows, some.run)
    if name == "semi_supervised":
        scorer.class_probabilities(some.rows, some.run)
    used = [count[0] for count in counts if count[0]]
    assert len(used) == (2 if name == "semi_supervised" else 1)
    assert all(n_rows <= 3 * (BLOCK_ROWS + PIECE) for n_rows in used)
    scorer.embed(some.rows, torch.zeros_like(some.run))
    assert counts[0][0] - used[0] == 2 * BLOCK_ROWS * 3


def test_short_series_score_the_same_copied_or_in_one_pass() -> None:
    """Alone a short series is a block of its own, among many its windows are copied."""
    scorer, n = untrained("bernoulli"), 150
    some = series(plant_rows(W * n), runs=(W,) * n)
    score, contributions = scorer(some.rows, some.run)
    for start in (0, W, 70 * W):
        alone = scorer(some.rows[start : start + W], some.run[:W])
        assert torch.equal(alone[0], score[start : start + W])
        assert torch.equal(alone[1], contributions[start : start + W])
