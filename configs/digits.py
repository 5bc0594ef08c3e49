"""scikit-learn's 1,797 digits, 80/20 stratified: the embedded default, no download.

regjax train --config=configs/digits.py --workdir=runs/digits

About 2 s of training on 2 CPU cores, 15 s in all. Test accuracy 0.989 ± 0.007 (mean ± standard
deviation over seeds 0 to 4, each with its own split).
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
        epochs=100,
        batch_size=32,
        checkpoint_every=10,
        data=DataConfig(name="digits", train=-1, valid=90, select=90, test=360),
        model=ModelConfig(name="mlp", widths=(256, 256), norm="batch", dropout_rate=0.3),
        loss=LossConfig(label_smoothing=0.05),
        optimizer=OptimizerConfig(name="adam", learning_rate=0.002),
        stopping=StoppingConfig(monitor="valid_loss", mode="min", patience=20),
    )
