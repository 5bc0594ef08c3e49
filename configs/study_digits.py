"""Which norm and which penalty for an MLP on 1,797 digits? 12 arms, 8 trials each, confirmed.

regjax study --config=configs/study_digits.py --workdir=runs/study_digits

About a minute on 2 CPU cores. With 5 seeds batch norm's 1.3 points are on the edge of what can be
told apart from none, and no penalty can be from any other.
"""

from regjax import sweeps
from regjax.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    SearchConfig,
    StoppingConfig,
    StudyConfig,
)
from regjax.sweeps import Range

PENALTIES = ["none", "l1", "l2", "elastic"]


def get_config() -> StudyConfig:
    """Returns the config."""
    return StudyConfig(
        epochs=60,
        batch_size=32,
        data=DataConfig(name="digits", train=300, valid=300, select=500, test=697),
        model=ModelConfig(name="mlp", widths=(128, 128)),
        optimizer=OptimizerConfig(name="adam"),
        stopping=StoppingConfig(monitor="valid_loss", mode="min", patience=10),
        study=SearchConfig(
            name="digits",
            arms=sweeps.product(
                sweeps.over("model.norm", ["none", "batch", "layer"]),
                sweeps.over("penalty.name", PENALTIES),
            ),
            ranges={
                "optimizer.learning_rate": Range(5e-4, 1e-2, log=True),
                "penalty.strength": Range(
                    1e-6, 1e-2, log=True, when={"penalty.name": PENALTIES[1:]}
                ),
            },
            trials=8,
            confirm=5,
        ),
    )
