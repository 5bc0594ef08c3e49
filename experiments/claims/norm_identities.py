"""Is group norm with one group instance norm, or layer norm? What does instance norm forget?

N4. "Group norm with N = 1 is instance norm, with N = C layer norm." It is the reverse.
N6. "Instance norm removes each sample's contrast."

Question: which outputs are the same? Method: random images `(16, 8, 8, 12)`, each channel with a
scale and mean of its own, another set a seed, in float64. N4: group norm with 1 and with 12 groups
against instance and layer norm, the largest difference of any output. N6: each image's contrast and
brightness are changed (x → a·x + b, a from 0.5 to 2), and so does each norm's output, by at most so
much (ε = 0, as with ε > 0 small contrasts are not removed whole). At most 1e-12 is the same.
Figure: these differences on a logarithmic axis; what is 0 is drawn at 1e-17.
Verdict: the claimed pairs are the same (N4); instance norm's output is the same (N6).
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures
from experiments.evidence import Evidence, Finding, Setting
from regjax import keys
from regjax.normalization import batch_norm, group_norm, instance_norm, layer_norm

CLAIMS = {
    "N4": "Group norm with N = 1 is instance norm, with N = C layer norm.",
    "N6": "Instance norm removes each sample's contrast.",
}
CHANNELS = 12
SAME = 1e-12
DATA = "random images"

NORMS = {
    "batch norm": lambda x: batch_norm(x, epsilon=0.0)[0],
    "layer norm": lambda x: layer_norm(x, epsilon=0.0),
    "instance norm": lambda x: instance_norm(x, epsilon=0.0),
    "group norm, N = 1": lambda x: group_norm(x, 1, epsilon=0.0),
    "group norm, N = C": lambda x: group_norm(x, CHANNELS, epsilon=0.0),
}
PAIRS = [(group, to) for group in list(NORMS)[3:] for to in ("instance norm", "layer norm")]
CLAIMED = [PAIRS[0], PAIRS[3]]


def images_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, and the same with other contrast and brightness."""
    rng = keys.host_stream(seed, "images")
    scale, shift = np.exp(rng.normal(size=CHANNELS)), rng.normal(size=CHANNELS)
    images = rng.normal(size=(16, 8, 8, CHANNELS)) * scale + shift
    contrast, brightness = rng.uniform(0.5, 2, (16, 1, 1, 1)), rng.normal(size=(16, 1, 1, 1))
    return images, images * contrast + brightness


def differences(images: jax.Array, changed: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Of each of `PAIRS`; and of each of `NORMS` with itself on images of other contrast."""
    out = {name: norm(images) for name, norm in NORMS.items()}
    pairs = [jnp.abs(out[a] - out[b]).max() for a, b in PAIRS]
    itself = [jnp.abs(out[name] - norm(changed)).max() for name, norm in NORMS.items()]
    return jnp.stack(pairs), jnp.stack(itself)


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures both claims."""
    with jax.enable_x64(True):
        sets = [np.stack(part) for part in zip(*map(images_of, setting.seeds), strict=True)]
        pairs, itself = (np.array(part).T for part in jax.jit(jax.vmap(differences))(*sets))
    of_pair = dict(zip(PAIRS, pairs, strict=True))
    of_norm = dict(zip(NORMS, itself, strict=True))
    same = [
        Finding(" is ".join(pair), "largest difference", of_pair[pair], "below", SAME)
        for pair in CLAIMED
    ]
    what = "largest change of the output with each image's contrast"
    kept = Finding("instance norm", what, of_norm["instance norm"], "below", SAME)
    named = {f"{a}, {b}": values for (a, b), values in of_pair.items()}
    return {
        "N4": Evidence(same, lambda figure: draw(figure, named, "largest difference"), DATA),
        "N6": Evidence([kept], lambda figure: draw(figure, of_norm, what), DATA),
    }


def draw(figure: Figure, values: dict[str, np.ndarray], what: str) -> None:
    """The differences, and where the same begins."""
    axes = figure.subplots()
    figures.bars(axes, {name: np.maximum(of, 1e-17) for name, of in values.items()})
    axes.axvline(SAME, color="#888888", ls="--", lw=1)
    axes.annotate("the same", (SAME, 1.01), xycoords=("data", "axes fraction"), ha="center")
    axes.set(xscale="log", xlabel=what)


if __name__ == "__main__":
    evidence.script()
