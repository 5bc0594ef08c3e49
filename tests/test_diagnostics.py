"""Diagnostics against closed forms, NumPy, SciPy, scikit-learn and dense Hessians."""

import itertools
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from regjax import by_patches, diagnostics, many_kernels
from regjax.models.mlp import MLP
from regjax.models.rnn import RNN, gru

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(12, 3)), jnp.float32)
Y = jnp.asarray(RNG.integers(0, 2, 12))
NET = MLP(2, (4, 3), activation=jnp.tanh)
PARAMS = jax.jit(NET.init)(KEY, X)["params"]


def loss(params: Any, x: jax.Array = X, y: jax.Array = Y) -> jax.Array:
    logits = NET.apply({"params": params}, x)
    assert isinstance(logits, jax.Array)
    return -(jax.nn.log_softmax(logits) * jax.nn.one_hot(y, 2)).sum(-1).mean()


decompose = jax.jit(diagnostics.bias_variance)
value, gradient = jax.jit(loss), jax.jit(jax.grad(loss))


def flat(tree: Any) -> np.ndarray:
    return np.asarray(ravel_pytree(tree)[0])


def dense_hessian(function: Any, params: Any) -> np.ndarray:
    start, unflatten = ravel_pytree(params)
    return np.asarray(jax.jit(jax.hessian(lambda w: function(unflatten(w))))(start))


class Cell(nn.Module):
    """Two outputs."""

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x, 2 * x


class Shared(nn.Module):
    """A layer called twice, names against the alphabet, a call by keyword."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        first = nn.Dense(3, name="z")
        x = nn.relu(first(first(inputs=x)))
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        carry, _ = Cell(name="cell")(x)
        return nn.Dense(2, name="a")(carry)


def test_activations_are_those_of_the_layers_in_the_order_of_the_calls() -> None:
    variables = {"params": PARAMS}
    seen = jax.jit(lambda v: diagnostics.activations(NET, v, X))(variables)
    given = diagnostics.layer_inputs(NET, variables, X)
    assert list(seen) == list(given) == ["dense_0", "dense_1", "head"]
    h = np.asarray(X)
    for name in seen:
        np.testing.assert_allclose(given[name], h, rtol=1e-5, atol=1e-6)
        h = h @ np.asarray(PARAMS[name]["kernel"]) + np.asarray(PARAMS[name]["bias"])
        np.testing.assert_allclose(seen[name], h, rtol=1e-5, atol=1e-6)
        h = np.tanh(h)


def test_activations_of_layers_called_twice_with_trees_in_loops_and_in_training() -> None:
    net = Shared()
    variables = jax.jit(net.init)(KEY, X)
    seen = jax.jit(jax.vmap(lambda x: diagnostics.activations(net, variables, x)))(X[None])
    assert list(seen) == ["z:0", "z:1", "norm", "cell/0", "cell/1", "a"]
    assert seen["z:0"].shape == (1, 12, 3)
    options = {"train": True, "mutable": ["batch_stats"]}
    trained = jax.jit(lambda v: diagnostics.activations(net, v, X, **options))(variables)
    np.testing.assert_allclose(trained["norm"].mean(0), 0, atol=1e-5)
    rnn, images = RNN(2, (4,), gru()), jnp.ones((2, 3, 3, 1))
    started = jax.eval_shape(rnn.init, KEY, images)
    seen = jax.eval_shape(lambda v: diagnostics.activations(rnn, v, images), started)
    assert {name: h.shape for name, h in seen.items()} == {
        "layer_0/input": (2, 3, 12),
        "layer_0": (2, 3, 4),
        "head": (2, 2),
    }


def test_units() -> None:
    h = np.asarray(RNG.normal(size=(7, 5, 4)), np.float32)
    h[..., 2] = np.minimum(h[..., 2], 0)
    h[..., 3] = h[..., 0]
    given = jnp.asarray(h)
    s = diagnostics.statistics(given)
    expected = [h.mean(), h.std(), (h == 0).mean(), h.min(), h.max()]
    np.testing.assert_allclose(np.array(s), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(diagnostics.dead_units(given), [False, False, True, False])
    share = (np.abs(np.tanh(h)) >= 0.97).mean()
    assert diagnostics.saturation(jnp.tanh(given)) == pytest.approx(share)
    relu = diagnostics.saturation(jnp.maximum(given, 0), 0.0, jnp.inf, margin=0.0)
    assert relu == pytest.approx((h <= 0).mean())
    assert diagnostics.distinct_units(given) == len(np.unique(h.reshape(-1, 4), axis=1).T) == 3
    assert diagnostics.distinct_units(given, jnp.inf) == 1


@given(rank=st.integers(0, 4), seed=st.integers(0, 2**16))
def test_ranks(rank: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    h = (rng.normal(size=(9, rank)) @ rng.normal(size=(rank, 4))).astype(np.float32)
    given = jnp.asarray(h)
    assert diagnostics.numerical_rank(given) == np.linalg.matrix_rank(h) == rank
    values = np.linalg.svd(h, compute_uv=False)
    shares = values[values > 0] / values.sum() if rank else np.zeros(0)
    expected = np.exp(-(shares * np.log(shares)).sum()) if rank else 0
    np.testing.assert_allclose(diagnostics.effective_rank(given), expected, rtol=1e-4)
    shifted = diagnostics.effective_rank(given + 5, centred=True)
    centred = diagnostics.effective_rank(given - given.mean(0, keepdims=True))
    np.testing.assert_allclose(shifted, centred, rtol=1e-3, atol=1e-3 if rank else 5)


def test_gradient_norms_of_a_batch_and_of_each_example() -> None:
    norms = diagnostics.gradient_norms(gradient(PARAMS), ["head", "dense_1"])
    assert list(norms)[:3] == ["head/bias", "head/kernel", "dense_1/bias"]
    own = jax.jit(
        lambda p: diagnostics.example_gradient_norms(
            lambda p, x, y: loss(p, x[None], y[None]), p, X, Y, chunk=5
        )
    )(PARAMS)
    for name, norm in norms.items():
        layer, leaf = name.split("/")
        np.testing.assert_allclose(norm, np.linalg.norm(gradient(PARAMS)[layer][leaf]), rtol=1e-5)
        one = gradient(PARAMS, X[3:4], Y[3:4])[layer][leaf]
        np.testing.assert_allclose(own[name][3], np.linalg.norm(one), rtol=1e-4)
    ratio = norms["head/kernel"] / norms["dense_0/kernel"]
    assert diagnostics.first_to_last(norms) == pytest.approx(float(ratio))


def test_covariate_shift_is_that_of_layers_updated_by_hand() -> None:
    layers = ["dense_0", "dense_1", "head"]
    after = jax.tree.map(lambda w, g: w - 0.5 * g, PARAMS, gradient(PARAMS))
    shift = jax.jit(lambda a: diagnostics.covariate_shift(loss, PARAMS, a, layers))(after)
    for i, layer in enumerate(layers):
        mixed = {name: (after if j < i else PARAMS)[name] for j, name in enumerate(layers)}
        old, new = flat(gradient(PARAMS)[layer]), flat(gradient(mixed)[layer])
        np.testing.assert_allclose(shift[layer].norm, np.linalg.norm(old), rtol=1e-5)
        np.testing.assert_allclose(shift[layer].distance, np.linalg.norm(old - new), atol=1e-6)
        cosine = old @ new / np.linalg.norm(old) / np.linalg.norm(new)
        np.testing.assert_allclose(shift[layer].cosine, cosine, rtol=1e-5)
    assert shift["dense_0"].distance == 0
    assert shift["head"].distance > 0
    with pytest.raises(ValueError, match="no parameter is under 'dense_2'"):
        diagnostics.covariate_shift(loss, PARAMS, after, ["dense_2"])


def test_the_angle_of_covariate_shift_does_not_depend_on_the_gradients_size() -> None:
    def loss(w: dict[str, jax.Array], scale: float = 1.0) -> jax.Array:
        return scale * ((w["a"] * w["b"]) ** 2).sum()

    before, after = ({n: w * jnp.arange(1.0, 4.0) for n in "ab"} for w in (1.0, 1.5))
    after["a"] = after["a"][::-1]
    for scale in (1e-12, 1e12):
        whole = diagnostics.covariate_shift(loss, before, after, ["a", "b"])
        small = diagnostics.covariate_shift(
            lambda w, s=scale: loss(w, s), before, after, ["a", "b"]
        )
        np.testing.assert_allclose(small["b"].cosine, whole["b"].cosine, rtol=1e-5)


def test_moment_shift_is_in_units_of_the_spread_before() -> None:
    h = jnp.concatenate([X, jnp.ones((12, 1))], axis=1)  # the last unit does not vary
    shift = diagnostics.moment_shift(h, 2 * h + 0.5)
    mean, std = np.asarray(X).mean(0), np.asarray(X).std(0)
    np.testing.assert_allclose(shift.mean, (np.abs(mean + 0.5) / std).mean(), rtol=1e-5)
    np.testing.assert_allclose(shift.std, np.log(2), rtol=1e-5)


def test_smoothness_is_what_is_met_along_the_gradient() -> None:
    rates = np.array([0.1, 1.0, 4.0], np.float32)
    s = jax.jit(lambda p, r: diagnostics.smoothness(loss, p, r))(PARAMS, rates)
    start = gradient(PARAMS)
    slopes = []
    for i, rate in enumerate(rates):
        there = jax.tree.map(lambda w, g, rate=rate: w - rate * g, PARAMS, start)
        change = np.linalg.norm(flat(gradient(there)) - flat(start))
        np.testing.assert_allclose(s.losses[i], value(there), rtol=1e-5)
        np.testing.assert_allclose(s.changes[i], change, rtol=1e-3)
        slopes.append(change / (rate * np.linalg.norm(flat(start))))
    np.testing.assert_allclose(s.beta, max(slopes), rtol=1e-3)
    assert diagnostics.smoothness(lambda w: (0 * w).sum(), X, jnp.ones(1)).beta == 0


def test_ritz_values_are_the_eigenvalues_of_the_dense_hessian() -> None:
    expected = np.linalg.eigvalsh(dense_hessian(loss, PARAMS))
    found = jax.jit(lambda p: diagnostics.ritz_values(loss, p, KEY, 20))(PARAMS)
    np.testing.assert_allclose(found[-3:], expected[-3:], rtol=1e-4)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-3)
    top = jax.jit(lambda p: diagnostics.top_eigenvalue(loss, p, KEY))(PARAMS)
    np.testing.assert_allclose(top, expected[-1], rtol=1e-5)


def test_curvature_of_half_precision_is_that_of_the_same_weights_in_float32() -> None:
    low = jax.tree.map(lambda w: w.astype(jnp.bfloat16), PARAMS)
    same = jax.tree.map(lambda w: w.astype(jnp.float32), low)
    for measure in (
        lambda p: diagnostics.ritz_values(loss, p, KEY, 4),
        lambda p: diagnostics.sam_sharpness(loss, p),
    ):
        np.testing.assert_array_equal(measure(low), measure(same))


@pytest.mark.parametrize("curvatures", [(-3.0, -3.0, -2.0, -2.0), (0.0,) * 4, (2.0,) * 4])
def test_ritz_values_of_few_different_eigenvalues_stay_between_them(curvatures: Any) -> None:
    values = jnp.asarray(curvatures)

    def quadratic(w: jax.Array) -> jax.Array:
        return (values * w**2).sum() / 2

    found = diagnostics.ritz_values(quadratic, jnp.ones(4), KEY)
    np.testing.assert_allclose(found[-1], max(curvatures), rtol=1e-5)
    np.testing.assert_allclose(found[0], min(curvatures), rtol=1e-5)


def test_hessian_vector_of_a_convolution_with_rules_of_its_own() -> None:
    """As lanes and GPUs have it, which forward mode does not pass."""
    window = by_patches.plain(((1, 1), (1, 1)))
    x, kernel = jnp.asarray(RNG.normal(size=(2, 4, 4, 1))), jnp.ones((3, 3, 1, 2))
    dimensions = ("NHWC", "HWIO", "NHWC")

    def through(convolution: Any) -> jax.Array:
        def loss(w: jax.Array) -> jax.Array:
            return jnp.square(jnp.tanh(convolution(x.astype(w.dtype), w))).mean()

        return jax.jit(lambda w: diagnostics.hessian_vector(loss, w, w + 1))(kernel)

    def plain(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=dimensions)

    ours = through(partial(many_kernels.convolution, window))
    np.testing.assert_allclose(ours, through(plain), rtol=1e-4, atol=1e-7)


def test_sam_sharpness_is_the_step_of_sam_and_nears_the_maximum_of_the_ball() -> None:
    rho = 0.3
    slopes = flat(gradient(PARAMS))
    start, unflatten = ravel_pytree(PARAMS)
    there = value(unflatten(start + rho * slopes / np.linalg.norm(slopes)))
    one = jax.jit(lambda p: diagnostics.sam_sharpness(loss, p, rho))(PARAMS)
    np.testing.assert_allclose(one, there - value(PARAMS), rtol=1e-4)
    # A quadratic's maximum in a ball: its stationary points w are (A − λ)⁻¹(−b) with |w| = ρ.
    curvatures, slope = np.array([4.0, 1.0, -2.0]), np.array([0.1, 1.0, 1.0])

    def quadratic(w: jax.Array) -> jax.Array:
        return (jnp.asarray(curvatures) * w**2 / 2 + jnp.asarray(slope) * w).sum()

    def gap(multiplier: float) -> float:
        return float(np.linalg.norm(slope / (multiplier - curvatures)) - 2)

    w = slope / (scipy.optimize.brentq(gap, 4 + 1e-6, 100) - curvatures)
    largest = (curvatures * w**2 / 2 + slope * w).sum()
    found = [
        diagnostics.sam_sharpness(quadratic, jnp.zeros(3), 2.0, steps) for steps in (1, 5, 100)
    ]
    assert found[0] < found[1] < found[2] <= largest * (1 + 1e-5)
    np.testing.assert_allclose(found[2], largest, rtol=1e-3)
    assert diagnostics.sam_sharpness(lambda w: (0 * w).sum(), X, rho) == 0


def test_sharpness_over_lanes_and_strengths_is_that_of_each() -> None:
    lanes = jax.tree.map(lambda w: jnp.stack([w, 2 * w]), PARAMS)
    rhos = jnp.array([0.1, 0.2])

    def sharp(params: Any, rho: jax.Array) -> tuple[jax.Array, jax.Array]:
        top = diagnostics.top_eigenvalue(loss, params, KEY, 8)
        return diagnostics.sam_sharpness(loss, params, rho, 2), top

    together, alone = jax.jit(jax.vmap(sharp))(lanes, rhos), jax.jit(sharp)
    for i in range(2):
        expected = alone(jax.tree.map(lambda w, i=i: w[i], lanes), rhos[i])
        np.testing.assert_allclose([x[i] for x in together], expected, rtol=1e-3)


def test_sparsity_by_weights_units_and_inputs() -> None:
    kernel = np.ones((3, 3, 2, 4), np.float32)
    kernel[0, 0, 0] = 0.5e-3  # an input, nearly
    kernel[..., 1] = 0  # a unit
    params = {"conv": {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(4)}}
    s = diagnostics.sparsity(params)
    assert [float(x) for x in s] == [0.25, 0.25, 0]
    s = diagnostics.sparsity(params, tolerance=1e-3)
    np.testing.assert_allclose(np.array(s), [(18 + 3) / 72, 1 / 4, 1 / 18], rtol=1e-6)
    assert diagnostics.sparsity(params, "all").weights == pytest.approx((18 + 4) / 76)
    by_path = diagnostics.sparsity_by_path({"a": params, "b": {"kernel": jnp.zeros((2, 2))}})
    assert [float(x.weights) for x in by_path.values()] == [0.25, 1]
    with pytest.raises(ValueError, match=r"no parameter matches 'kernels'; there are w"):
        diagnostics.sparsity({"w": jnp.zeros(3)})


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint8", "uint32"])
def test_zero_one_loss_of_any_integers_is_the_same(dtype: str) -> None:
    predictions, targets = jnp.array([[0, 1, 1], [0, 1, 0], [0, 0, 0]]), jnp.array([0, 1, 1])
    expected = diagnostics.bias_variance(predictions, targets)
    found = diagnostics.bias_variance(predictions.astype(dtype), targets.astype(dtype))
    np.testing.assert_array_equal(found, expected)


@given(seed=st.integers(0, 2**16), classes=st.sampled_from([2, 3]))
def test_zero_one_loss_is_bias_and_net_variance(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    predictions, targets = rng.integers(0, classes, (5, 20)), rng.integers(0, classes, 20)
    d = decompose(jnp.asarray(predictions), jnp.asarray(targets))
    assert isinstance(d, diagnostics.ZeroOne)
    main = np.array([np.bincount(column).argmax() for column in predictions.T])
    biased, deviates = main != targets, predictions != main
    np.testing.assert_allclose(d.error, (predictions != targets).mean(), rtol=1e-5)
    np.testing.assert_allclose(d.bias, biased.mean(), rtol=1e-5)
    np.testing.assert_allclose(d.variance, deviates.mean(), rtol=1e-5)
    np.testing.assert_allclose(d.unbiased_variance, (deviates * ~biased).mean(), rtol=1e-5)
    won = deviates & (predictions == targets) & biased
    np.testing.assert_allclose(d.biased_variance, won.mean(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(d.error, d.bias + d.net_variance, rtol=1e-5)
    if classes == 2:  # Domingos: on biased examples all that deviates is right
        np.testing.assert_allclose(d.biased_variance, (deviates * biased).mean(), atol=1e-6)


def test_squared_loss_is_noise_bias_and_variance() -> None:
    predictions, targets = RNG.normal(size=(6, 9, 3)), RNG.normal(size=(4, 9, 3)) + 1
    pairs = itertools.product(targets, predictions)
    error = np.mean([np.square(t - p).sum(-1).mean() for t, p in pairs])
    d = decompose(jnp.asarray(predictions), jnp.asarray(targets))
    assert isinstance(d, diagnostics.Squared)
    np.testing.assert_allclose(d.error, error, rtol=1e-5)
    np.testing.assert_allclose(d.noise + d.bias + d.variance, error, rtol=1e-5)
    np.testing.assert_allclose(d.variance, predictions.var(0).sum(-1).mean(), rtol=1e-5)
    np.testing.assert_allclose(d.noise, targets.var(0).sum(-1).mean(), rtol=1e-5)
    labels = np.arange(9) % 3
    classes = decompose(jnp.asarray(predictions), jnp.asarray(labels))
    onehot = decompose(jnp.asarray(predictions), jnp.asarray(np.eye(3)[labels]))
    np.testing.assert_allclose(np.array(classes), np.array(onehot), rtol=1e-5)
    assert classes[1] == 0  # one target an example
    scalar = decompose(jnp.asarray(predictions[..., 0]), jnp.zeros(9))
    np.testing.assert_allclose(scalar[0], np.square(predictions[..., 0]).mean(), rtol=1e-5)
    for wrong in (jnp.zeros(8), jnp.zeros((2, 8, 3)), jnp.zeros(8, int), jnp.zeros((9, 2))):
        with pytest.raises(ValueError, match=r"do not fit targets of"):
            diagnostics.bias_variance(jnp.asarray(predictions), wrong)
    with pytest.raises(ValueError, match=r"do not fit targets of"):
        diagnostics.bias_variance(jnp.zeros((3, 8), int), jnp.zeros(7, int))


def test_calibration_of_two_classes_is_scikit_learns() -> None:
    from sklearn.calibration import calibration_curve

    p = RNG.uniform(0.5, 1, 200)
    labels = (RNG.uniform(size=200) < p**2).astype(int)
    accuracy, confidence = calibration_curve(labels, p, n_bins=10)
    ours = jax.jit(lambda p, y: diagnostics.calibration(p, y, 10))
    sums = ours(jnp.asarray(np.stack([1 - p, p], 1)), jnp.asarray(labels))
    found = sums.bins
    np.testing.assert_array_equal(found.count[:5], 0)
    np.testing.assert_allclose(found.accuracy[5:], accuracy, rtol=1e-5)
    np.testing.assert_allclose(found.confidence[5:], confidence, rtol=1e-5)
    gaps = np.abs(accuracy - confidence)
    np.testing.assert_allclose(sums.maximum_error, gaps.max(), rtol=1e-4)
    np.testing.assert_allclose(sums.expected_error, (gaps * found.count[5:]).sum() / 200, rtol=1e-4)
    np.testing.assert_allclose(sums.brier, 2 * np.square(p - labels).mean(), rtol=1e-5)
    likely = np.where(labels == 1, p, 1 - p)
    np.testing.assert_allclose(sums.negative_log_likelihood, -np.log(likely).mean(), rtol=1e-5)
    sure = ours(jnp.eye(2), jnp.array([0, 0]))  # a probability of 0
    assert sure.expected_error == 0.5
    assert sure.negative_log_likelihood == jnp.inf


def test_a_power_law_is_found_again() -> None:
    sizes = np.array([50, 100, 200, 400, 800])
    law = diagnostics.PowerLaw(0.04, 1.5, 0.6)
    found = diagnostics.power_law(sizes, law.at(sizes))
    np.testing.assert_allclose(found, law, rtol=1e-3)
    noisy = law.at(sizes) * (1 + 0.05 * RNG.normal(size=5))
    ours = np.square(diagnostics.power_law(sizes, noisy).at(sizes) - noisy).sum()
    theirs, _ = scipy.optimize.curve_fit(
        lambda n, a, b, c: a + b * n**-c, sizes, noisy, law, bounds=(0, [1, 100, 4])
    )
    best = np.square(diagnostics.PowerLaw(*theirs).at(sizes) - noisy).sum()
    assert ours <= best * (1 + 1e-4)
    flat_curve = diagnostics.power_law(sizes, np.full(5, 0.1))
    assert flat_curve.at(1e4) == pytest.approx(0.1)
    for wrong in ((10, 20), (10, 10, 20)):
        with pytest.raises(ValueError, match="three different sizes, got 2"):
            diagnostics.power_law(wrong, (0.1,) * len(wrong))


def test_subsets_are_nested_and_without_repetition() -> None:
    subsets = diagnostics.nested_subsets(KEY, 20, (4, 20, 9))
    assert [len(np.unique(s)) for s in subsets] == [4, 20, 9]
    np.testing.assert_array_equal(subsets[2][:4], subsets[0])
    with pytest.raises(ValueError, match="got 21"):
        diagnostics.nested_subsets(KEY, 20, (4, 21))
