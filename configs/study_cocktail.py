"""How far do all regularizers together carry a CNN on 1,000 images of MNIST?

regjax study --config=configs/study_cocktail.py --workdir=runs/study_cocktail

The experiment's own network, images and splits, with everything that this library has for it:
affine and elastic distortions, dropout, label smoothing, decoupled decay, one cosine cycle, an
average of the weights, with and without mixup. Settings are chosen on `select`; each arm's best is
trained again on ten fresh seeds and splits, and looked at once on `test`.
"""

from regjax import sweeps
from regjax.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    SearchConfig,
    StoppingConfig,
    StudyConfig,
)
from regjax.sweeps import Range


def get_config() -> StudyConfig:
    """Returns the config."""
    return StudyConfig(
        epochs=100,
        batch_size=32,
        checkpoint_every=100,
        data=DataConfig(
            name="tfds:mnist", train=1000, valid=2000, select=5000, test=10000, stratified=False
        ),
        augment=AugmentConfig(
            degrees=10, translate=0.1, scale=0.1, shear=10, elastic_alpha=20, mix_alpha=0.2
        ),
        model=ModelConfig(name="cnn", norm="batch", dropout_rate=0.3),
        loss=LossConfig(label_smoothing=0.05),
        optimizer=OptimizerConfig(
            name="adamw",
            learning_rate=0.003,
            weight_decay=0.02,
            average="ema",
            average_decay=0.99,
            schedule=ScheduleConfig("cosine", warmup_epochs=3),
        ),
        stopping=StoppingConfig(monitor="valid_accuracy", mode="max", patience=0),
        study=SearchConfig(
            name="cocktail",
            arms=sweeps.over("augment.mix", ["none", "mixup"]),
            ranges={
                "optimizer.learning_rate": Range(1e-3, 6e-3, log=True),
                "optimizer.weight_decay": Range(3e-3, 0.1, log=True),
                "model.dropout_rate": Range(0.1, 0.5),
                "loss.label_smoothing": Range(0.01, 0.1, log=True),
                "augment.degrees": Range(5.0, 20.0),
                "augment.shear": Range(5.0, 20.0),
                "augment.scale": Range(0.05, 0.2),
                "augment.translate": Range(0.03, 0.12),
                "augment.elastic_alpha": Range(5.0, 40.0),
            },
            trials=8,
            confirm=10,
        ),
    )
