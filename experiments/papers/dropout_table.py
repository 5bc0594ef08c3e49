"""Is dropout with a max-norm constraint the best of the classical regularizers?

T1. Srivastava et al. (2014), "Dropout", table 9: on MNIST the error falls from L2 over L1 + L2,
max-norm, and dropout with L2 to dropout with max-norm.

Question: does that order hold? Method: their network, three hidden ReLU layers, and dropout with
p = ½ in these; each arm with the best of three strengths or radii and two rates by the mean
selection accuracy of the other seeds. They train 784-1024-1024-2048-10 on 60,000 images by SGD with
momentum; here 784-256-256-512-10 on 1,000 images, and at full scale their widths on 10,000, by
Adam, as with so few updates SGD does not train the networks with dropout at any rate that suits the
others.
Figure: test error of each arm, and theirs.
Verdict: the error of each arm is below that of the one before.
"""

import itertools
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax import config as config_lib
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {"T1": "Dropout with max-norm < dropout with L2 < max-norm < L1 + L2 < L2 in error."}
CONFIG = Config(
    epochs=60,
    batch_size=50,
    data=DataConfig("tfds:mnist", valid=0, select=2000, test=10000, stratified=False),
    model=ModelConfig("mlp"),
    optimizer=OptimizerConfig("adam"),
    stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
)
SCALE = {
    "small": {"data.train": 1000, "model.widths": (256, 256, 512)},
    "full": {"data.train": 10000, "model.widths": (1024, 1024, 2048)},
}
RATES = [{"optimizer.learning_rate": rate} for rate in (3e-4, 1e-3)]
STRENGTHS = [{"penalty.strength": s} | rate for s in (1e-5, 1e-4, 1e-3) for rate in RATES]
RADII = [{"constraint.radius": r} | rate for r in (1.0, 2.0, 4.0) for rate in RATES]
L2, MAX_NORM = {"penalty.name": "l2"}, {"constraint.name": "max_norm"}
DROPOUT = {"model.dropout_rate": 0.5}
Tuned = tuple[dict[str, Any], list[dict[str, float]]]
ARMS: dict[str, Tuned] = {
    "L2": (L2, STRENGTHS),
    "L1 + L2": ({"penalty.name": "elastic"}, STRENGTHS),
    "max-norm": (MAX_NORM, RADII),
    "dropout, L2": (DROPOUT | L2, STRENGTHS),
    "dropout, max-norm": (DROPOUT | MAX_NORM, RADII),
}
PAPER = dict(zip(ARMS, (1.62, 1.60, 1.35, 1.25, 1.05), strict=True))  # test error in %


def measure(setting: Setting) -> dict[str, Evidence]:
    """Trains every arm with every strength."""
    config = config_lib.with_setting(CONFIG, SCALE[setting.scale])
    errors = {
        name: 100 - 100 * lanes.tuned(config_lib.with_setting(config, arm), setting.seeds, tried)[0]
        for name, (arm, tried) in ARMS.items()
    }
    findings = [
        Finding(
            f"{better} < {worse}",
            "test error, the first − the second",
            errors[better] - errors[worse],
            "below",
            unit="points",
            paper=f"{PAPER[better]} < {PAPER[worse]} %",
        )
        for worse, better in itertools.pairwise(ARMS)
    ]
    data = f"{SCALE[setting.scale]['data.train']:,} images of MNIST"
    return {"T1": Evidence(findings, partial(draw, errors=errors, data=data), data)}


def draw(figure: Figure, errors: dict[str, np.ndarray], data: str) -> None:
    """Errors of each arm, theirs and ours."""
    left, right = figure.subplots(1, 2, sharey=True)
    left.plot(list(PAPER.values()), range(len(PAPER)), "o", color="#444444", ms=7)
    left.set(xlabel="test error / %", title="paper, 60,000 images")
    figures.bars(right, errors)
    right.set(xlabel="test error / %", title=data)


if __name__ == "__main__":
    evidence.script()
