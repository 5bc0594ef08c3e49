"""What becomes of the gradient on its way down to the first layer?

A1. "Sigmoid's gradient vanishes with depth: its derivative is at most .25; tanh less, ReLU not."
A3. "Residual connections keep the gradient."

Question: how large is the first layer's gradient in a network of 1 to 30 hidden layers, against one
of a single layer? Method: networks of 64 units at their start, 32 digits, in float64; each
activation × initializer × norm (before the activation) × residual (x + f(x) from the second layer
on); a seed draws weights and digits. The network of d layers is the first d of that of 30, with the
same head. Figure: norm of the first kernel's gradient over that at depth 1, in powers of ten.
Verdict: to vanish is to fall below a thousandth from depth 1 to 30; to be kept is to stay within a
factor of ten. A1: with sigmoid a layer of orthogonal weights, which change no length, passes on at
most .25 of each example's gradient (the largest of all layers and examples), and plain sigmoid
vanishes from the initializer that does best; tanh keeps more than sigmoid (Xavier); ReLU is kept
from He, and from Xavier, with half of that variance. A3: kept with residual connections, each
activation from its own initializer, and ReLU also with batch norm in the branch.
"""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures
from experiments.evidence import Evidence, Finding, Setting
from regjax import initializers, keys, losses
from regjax.activations import ACTIVATIONS
from regjax.data import digits
from regjax.normalization import batch_norm, layer_norm

CLAIMS = {
    "A1": "Sigmoid's gradient vanishes with depth: its derivative is at most .25; tanh less, "
    "ReLU not.",
    "A3": "Residual connections keep the gradient.",
}
DEPTHS = (1, 2, 5, 10, 20, 30)
WIDTH, EXAMPLES = 64, 32
STARTS = ("xavier_normal", "he_normal", "torch_default", "orthogonal")
FUNCTIONS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
NORMS = {"no norm": lambda x: x, "batch norm": lambda x: batch_norm(x)[0], "layer norm": layer_norm}
Kind = tuple[str, str, bool]  # activation, norm, residual
DATA = f"{EXAMPLES} digits"


def digits_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images in [−1, 1] and labels."""
    pool = digits.load()
    rows = keys.host_stream(seed, "digits").choice(len(pool.labels), EXAMPLES, replace=False)
    return pool.images[rows].reshape(EXAMPLES, -1) / 8.0 - 1.0, pool.labels[rows]


def weights_of(seeds: range) -> tuple[jax.Array, jax.Array]:
    """Kernels of 30 layers, `(initializers, seeds, 30, in, out)`, and heads."""
    keys_of = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed), DEPTHS[-1] + 1))
    every = jax.jit(keys_of)(jnp.array(seeds))
    parts = []
    for name in STARTS:
        draw = initializers.SCHEMES[name].kernel
        kernel = jax.jit(jax.vmap(jax.vmap(partial(draw, shape=(WIDTH, WIDTH)))))(every[:, 1:])
        head = jax.jit(jax.vmap(partial(draw, shape=(WIDTH, 10))))(every[:, 0])
        parts.append([kernel.astype(float), head.astype(float)])
    layers, heads = (jnp.stack(part) for part in zip(*parts, strict=True))
    return layers, heads


@jax.jit
@partial(jax.vmap, in_axes=(None, 0, None, None))  # initializers
@partial(jax.vmap, in_axes=(None, 0, 0, 0))  # seeds
def gradients(
    kind: tuple[jax.Array, ...], weights: tuple[jax.Array, jax.Array], x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The first kernel's gradient norm by depth, and the largest factor that a layer passes on.

    A kind is a number in `FUNCTIONS`, one in `NORMS`, and 1 or 0; one program for all kinds.
    """
    activation = partial(jax.lax.switch, kind[0], [ACTIVATIONS[name] for name in FUNCTIONS])
    norm = partial(jax.lax.switch, kind[1], list(NORMS.values()))
    layers, head = weights

    def loss(first: jax.Array, probes: jax.Array, depth: jax.Array) -> jax.Array:
        def layer(x: jax.Array, of_layer: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
            kernel, probe, number = of_layer
            out = activation(norm(x @ kernel)) + kind[2] * x
            return jnp.where(number < depth, out, x) + probe, None

        start = activation(norm(x @ first))
        out, _ = jax.lax.scan(layer, start, (layers[1:], probes, jnp.arange(1, DEPTHS[-1])))
        return losses.cross_entropy(out @ head, y).mean()

    def at(depth: jax.Array) -> tuple[jax.Array, jax.Array]:
        probes = jnp.zeros((DEPTHS[-1] - 1, EXAMPLES, WIDTH))  # their gradient is the layers'
        first, through = jax.grad(loss, (0, 1))(layers[0], probes, depth)
        lengths = jnp.linalg.norm(through, axis=-1)
        return jnp.linalg.norm(first), (lengths[:-1] / lengths[1:]).max()

    norms, factors = jax.lax.map(at, jnp.array(DEPTHS))
    return norms, factors[-1]


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures both claims."""
    numbers = list(product(range(3), range(3), (0, 1)))
    with jax.enable_x64(True):
        weights = weights_of(setting.seeds)
        data = [jnp.array(part) for part in zip(*map(digits_of, setting.seeds), strict=True)]
        found = [jax.device_get(gradients(number, weights, *data)) for number in numbers]
    kinds = product(FUNCTIONS, NORMS, (False, True))
    norms = {k: np.log10(of / of[..., :1]) for k, (of, _) in zip(kinds, found, strict=True)}
    factor = found[0][1][STARTS.index("orthogonal")]  # plain sigmoid

    def kept(
        activation: str, start: str, norm: str = "no norm", residual: bool = False
    ) -> np.ndarray:
        return norms[activation, norm, residual][STARTS.index(start)][:, -1]

    what = "log10(gradient at depth 30 / at depth 1)"
    best = norms["sigmoid", "no norm", False][..., -1].max(0)
    tanh, sigmoid = kept("tanh", "xavier_normal"), kept("sigmoid", "xavier_normal")
    vanish = [
        Finding("sigmoid, best initializer", what, best, "below", -3),
        Finding("sigmoid, a layer", "largest share of a gradient passed on", factor, "below", 0.25),
        Finding("tanh, Xavier", f"{what}, tanh − sigmoid", tanh - sigmoid),
        Finding("ReLU, He", what, kept("relu", "he_normal"), "above", -1),
        Finding("ReLU, Xavier", what, kept("relu", "xavier_normal"), "above", -1),
    ]
    own = {"sigmoid": "xavier_normal", "tanh": "xavier_normal", "relu": "he_normal"}
    keep = [
        Finding(f"{FUNCTIONS[name]}, {norm}", what, kept(name, start, norm, True), "within", 1)
        for name, start in own.items()
        for norm in (["no norm", "batch norm"] if name == "relu" else ["no norm"])
    ]
    return {
        "A1": Evidence(vanish, lambda figure: draw(figure, norms, False), DATA),
        "A3": Evidence(keep, lambda figure: draw(figure, norms, True), DATA),
    }


def draw(figure: Figure, norms: dict[Kind, np.ndarray], residual: bool) -> None:
    """A row a norm, a column an activation, a line an initializer."""
    figure.set_size_inches(9, 8)
    panels = figure.subplots(3, 3, sharex=True, sharey="row")
    for (activation, norm, of), values in norms.items():
        if of == residual:
            row, column = list(NORMS).index(norm), list(FUNCTIONS).index(activation)
            axes = panels[row, column]
            for number, (start, of_seeds) in enumerate(zip(STARTS, values, strict=True)):
                figures.curve(axes, DEPTHS, of_seeds, start, number)
            axes.axhline(0, color="#888888", lw=1)
            axes.set_title(f"{FUNCTIONS[activation]}, {norm}{', residual' * residual}")
    figure.supxlabel("hidden layers")
    figure.supylabel("log10 of the first layer's gradient, over that with one layer")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)


if __name__ == "__main__":
    evidence.script()
