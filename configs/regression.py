"""A number of your own table, predicted by a small MLP: 60 % to train, 20 % to stop, 20 % to test.

regjax train --config=configs/regression.py --workdir=runs/mine \
  --config.data.name=csv:mine.csv --config.data.target=COLUMN
"""

from regjax.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    StoppingConfig,
)


def get_config() -> Config:
    """Returns the config."""
    return Config(
        epochs=300,
        data=DataConfig(
            name="csv:mine.csv",
            task="regression",
            valid=0.2,
            select=0,
            test=0.2,
            scaling="standardize",
        ),
        model=ModelConfig(name="mlp", widths=(64, 64)),
        loss=LossConfig("mean_squared"),
        optimizer=OptimizerConfig(name="adam"),
        stopping=StoppingConfig(monitor="valid_loss", mode="min", patience=20),
    )
