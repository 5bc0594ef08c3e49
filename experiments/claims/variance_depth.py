"""Which initial weights keep the variance of the signal from layer to layer?

I2. "Small random normals make deep activations collapse, large ones saturate."
I3. "Xavier keeps variance with tanh and sigmoid-like units; He with ReLU."

Question: what is left of the signal after 10 and 50 layers? Method: plain networks of 128 units
without biases, inputs of variance 1, nothing trained. I2: N(0, σ²), σ from .001 to 3, 10 layers, a
draw a seed, 64 examples: the deviation over the examples, mean over the units (what is below 1e-6,
float32's rounding, counts as 1e-6), and the share of saturated units (|tanh| above .97, and the
same share of sigmoid's range). I3: Xavier, N(0, 2/(n_in + n_out)), and He, N(0, 2/n_in): the
variance of the pre-activations over weights, units and 4 examples by layer, a seed the mean over
many draws of all weights, and theory's: q' = F(q) = n·w·E[f(√q·z)²], w the variance of a weight (He
et al. 2015; Poole et al. 2016), to first order in 1/n; for ReLU F is linear and that exact at any
width. It is not the variance between examples, of which sigmoid takes 15/16 and more in each layer.
Figure: I2: both against σ; I3: the variance by layer, theory dashed.
Verdict: I2: at σ = .01 less than a thousandth of the inputs' deviation is left, at σ = 1 more than
half of the units are saturated. I3: kept is within a factor of two from layer 1 on; and the claim's
three pairs depart from theory at layer 10 by less than 5 %: what is measured is the rule.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures
from experiments.evidence import Evidence, Finding, Setting
from regjax import initializers, keys
from regjax.activations import ACTIVATIONS
from regjax.diagnostics import saturation

CLAIMS = {
    "I2": "Small random normals make deep activations collapse, large ones saturate.",
    "I3": "Xavier keeps variance with tanh and sigmoid-like units; He with ReLU.",
}
WIDTH, DEPTH, LAYERS = 128, 50, 10
STDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
RANGES = {"tanh": (-1.0, 1.0, 0.03), "sigmoid": (0.0, 1.0, 0.015)}
STARTS = {"xavier_normal": ("tanh", "sigmoid", "relu"), "he_normal": ("relu",)}
DRAWS = {"xavier_normal": 32, "he_normal": 64}
MANY = 256  # draws for ReLU from He at layer 10, where the mean varies most
NAMES = {"tanh": "tanh, Xavier", "sigmoid": "sigmoid, Xavier", "relu": "ReLU, Xavier"}
DATA = "random inputs"


@partial(jax.jit, static_argnums=(0, 1, 2))
def variances(start: str, depth: int, draws: int, key: jax.Array) -> jax.Array:
    """Mean square of the pre-activations, `(depth, activations of the start)`, over many draws."""
    kernel, activations = initializers.SCHEMES[start].kernel, STARTS[start]

    def layer(h: list[jax.Array], key: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        weights = kernel(key, (WIDTH, WIDTH))
        z = [x @ weights for x in h]
        seen = jnp.stack([jnp.square(x).mean() for x in z])
        return [ACTIVATIONS[name](x) for name, x in zip(activations, z, strict=True)], seen

    def draw(key: jax.Array) -> jax.Array:
        first, rest = jax.random.split(key)
        inputs = jax.random.normal(first, (4, WIDTH))
        return jax.lax.scan(layer, [inputs] * len(activations), jax.random.split(rest, depth))[1]

    return jax.lax.map(draw, jax.random.split(key, draws)).mean(0)


def theory(activation: str, gain: float) -> np.ndarray:
    """Its mean by layer, from those of mean and variance of q; `gain` is n·w."""
    z, weight = (jnp.array(part) for part in np.polynomial.hermite_e.hermegauss(101))

    def moment(q: jax.Array, power: int) -> jax.Array:
        return (ACTIVATIONS[activation](jnp.sqrt(q) * z) ** power) @ weight / weight.sum()

    def layer(q: jax.Array, spread: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, slope, bend = (
            f(q, 2) for f in (moment, jax.grad(moment), jax.grad(jax.grad(moment)))
        )
        units = (moment(q, 4) - first**2) / WIDTH
        return gain * (first + bend * spread / 2), gain**2 * (slope**2 * spread + units)

    step = jax.jit(layer)
    q = [(jnp.array(gain), jnp.array(2 * gain**2 / WIDTH))]
    for _ in range(DEPTH - 1):
        q.append(step(*q[-1]))
    return np.array([mean for mean, _ in q])


@partial(jax.jit, static_argnums=0)
def last_layer(activation: str, key: jax.Array, std: jax.Array) -> tuple[jax.Array, jax.Array]:
    """After 10 layers of N(0, std²): log10 of the deviation over examples, share of saturated."""
    first, rest = jax.random.split(key)
    kernel = initializers.normal(0.0, std)

    def layer(h: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        return ACTIVATIONS[activation](h @ kernel(key, (WIDTH, WIDTH))), None

    h, _ = jax.lax.scan(
        layer, jax.random.normal(first, (64, WIDTH)), jax.random.split(rest, LAYERS)
    )
    left = jnp.log10(jnp.maximum(h.std(axis=0).mean(), 1e-6))
    low, high, margin = RANGES.get(activation, (-jnp.inf, jnp.inf, 0.0))
    return left, saturation(h, low, high, margin)


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures both claims."""
    seeds = [jax.random.key(seed) for seed in setting.seeds]
    found = {
        start: np.array([variances(start, DEPTH, draws, seed) for seed in seeds])
        for start, draws in DRAWS.items()
    }
    measured = {name: found["xavier_normal"][..., i] for i, name in enumerate(NAMES.values())}
    measured["ReLU, He"] = found["he_normal"][..., 0]
    expected = {name: theory(activation, 1.0) for activation, name in NAMES.items()}
    expected["ReLU, He"] = theory("relu", 2.0)
    log = {name: np.log2(of / of[:, :1]) for name, of in measured.items()}
    what = "log2(variance / that of layer 1)"
    claimed = [
        ("ReLU, He", 50),
        ("tanh, Xavier", 10),
        ("tanh, Xavier", 50),
        ("sigmoid, Xavier", 10),
    ]
    kept = [
        Finding(f"{name}, {depth} layers", what, log[name][:, depth - 1], "within", 1)
        for name, depth in claimed
    ]
    tenth = {name: of[:, LAYERS - 1] for name, of in measured.items() if name != "ReLU, Xavier"}
    tenth["ReLU, He"] = np.array(
        [variances("he_normal", LAYERS, MANY, keys.stream(seed, "many"))[-1, 0] for seed in seeds]
    )
    off = [of / expected[name][LAYERS - 1] - 1 for name, of in tenth.items()]
    worst = max(off, key=lambda values: abs(values.mean()))
    kept.append(Finding("theory, 10 layers", "variance / theory's − 1", worst, "within", 0.05))
    normals = {
        name: np.array([[last_layer(name, seed, std) for std in STDS] for seed in seeds])
        for name in ("tanh", "sigmoid", "relu")
    }  # (seeds, stds, 2)
    small, large = STDS.index(0.01), STDS.index(1.0)
    left = "log10(deviation over examples after 10 layers)"
    extremes = [
        *(
            Finding(f"{name}, σ = .01", left, of[:, small, 0], "below", -3)
            for name, of in normals.items()
        ),
        *(
            Finding(
                f"{name}, σ = 1",
                "share of saturated units",
                normals[name][:, large, 1],
                "above",
                0.5,
            )
            for name in RANGES
        ),
    ]
    return {
        "I2": Evidence(extremes, lambda figure: draw_normals(figure, normals), DATA),
        "I3": Evidence(kept, lambda figure: draw_layers(figure, log, expected), DATA),
    }


def draw_normals(figure: Figure, normals: dict[str, np.ndarray]) -> None:
    """What is left, and what is saturated, against σ."""
    left, right = figure.subplots(1, 2)
    for number, (name, of) in enumerate(normals.items()):
        figures.curve(left, STDS, of[..., 0], name, number)
        if name in RANGES:
            figures.curve(right, STDS, of[..., 1], name, number)
    left.axhline(-3, color="#888888", ls="--", lw=1)
    left.set(
        ylabel="log10 of the deviation over examples",
    )
    right.axhline(0.5, color="#888888", ls="--", lw=1)
    right.set(ylabel="share of saturated units")
    for axes in (left, right):
        axes.axvline(WIDTH**-0.5, color="#888888", ls=":", lw=1)
        axes.set(xscale="log", xlabel=f"σ of the weights (dotted: 1/√{WIDTH}), 10 layers")
    left.legend()


def draw_layers(
    figure: Figure, log: dict[str, np.ndarray], expected: dict[str, np.ndarray]
) -> None:
    """The variance by layer."""
    axes = figure.subplots()
    layers = np.arange(1, DEPTH + 1)
    for number, (name, of) in enumerate(log.items()):
        figures.curve(axes, layers, of, name, number)
        axes.plot(layers, np.log2(expected[name] / expected[name][0]), "k--", lw=1)
    axes.axhspan(-1, 1, color="#888888", alpha=0.15, lw=0)
    axes.set(xlabel="layer", ylabel="log2 of the variance, over that of layer 1", ylim=(-9, 1.2))
    figure.legend(title="dashed: theory", loc="outside right upper")


if __name__ == "__main__":
    evidence.script()
