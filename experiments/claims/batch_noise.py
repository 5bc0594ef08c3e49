"""Does the noise of batch statistics regularize?

N7. "Batch norm is a regularizer (noise of batch statistics)."

Question: does batch norm narrow the gap between training and test, and more so the noisier its
statistics are? Method: MLPs of two layers of 128 ReLU units on digits, 512 to train, 40 epochs of
Adam (.003) in batches of 64, which all arms share: without a norm, with layer norm, which has no
such noise, with batch norm, and with ghost batch norm, whose statistics are those of 16 or 4
examples of the batch. Only the noise of the statistics differs between the last three. Measured at
the last epoch. Figure: the gap, test − training loss, and test accuracy.
Verdict: the gap is smaller, and test accuracy higher, with batch norm than without a norm (the
regularizer), and with statistics of 4 examples than with those of 64 (the noise).
"""

import numpy as np
from matplotlib.figure import Figure

from experiments import evidence, figures, lanes
from experiments.evidence import Evidence, Finding, Setting
from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig

CLAIMS = {"N7": "Batch norm is a regularizer (noise of batch statistics)."}
BATCH = 64
ARMS = {
    "no norm": {},
    "layer norm": {"norm": "layer"},
    "batch norm of 64": {"norm": "batch"},
    "batch norm of 16": {"norm": "ghost_batch", "norm_groups": 4},
    "batch norm of 4": {"norm": "ghost_batch", "norm_groups": 16},
}


def measure(setting: Setting) -> dict[str, Evidence]:
    """Measures the claim."""
    gap, accuracy = {}, {}
    for name, norm in ARMS.items():
        config = Config(
            epochs=40,
            batch_size=BATCH,
            data=DataConfig("digits", train=512, valid=100, select=0, test=1185),
            model=ModelConfig("mlp", widths=(128, 128), **norm),
            optimizer=OptimizerConfig("adam", 0.003),
            stopping=StoppingConfig(patience=0),
        )
        records = lanes.train(lanes.over_seeds(config, setting.seeds), last=True)
        losses = [lanes.column(records, f"{split}_loss")[0] for split in ("test", "train")]
        gap[name], accuracy[name] = losses[0] - losses[1], lanes.column(records, "test_accuracy")[0]

    def against(first: str, second: str, condition: str) -> list[Finding]:
        names = f"{first} − {second}"
        return [
            Finding(f"{condition}, gap", f"gap, {names}", gap[first] - gap[second], "below"),
            Finding(
                f"{condition}, accuracy",
                f"test accuracy, {names}",
                accuracy[first] - accuracy[second],
            ),
        ]

    findings = against("batch norm of 64", "no norm", "regularizer")
    findings += against("batch norm of 4", "batch norm of 64", "noise")
    return {"N7": Evidence(findings, lambda figure: draw(figure, gap, accuracy), "512 digits")}


def draw(figure: Figure, gap: dict[str, np.ndarray], accuracy: dict[str, np.ndarray]) -> None:
    """The gap and test accuracy of every arm."""
    left, right = figure.subplots(1, 2, sharey=True)
    figures.bars(left, gap)
    figures.bars(right, accuracy)
    left.locator_params(axis="x", nbins=5)
    left.set(xlabel="test loss − training loss")
    right.set(xlabel="test accuracy")


if __name__ == "__main__":
    evidence.script()
