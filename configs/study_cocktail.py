"""How far do all regularizers together carry a CNN on 1,000 images of MNIST?

regjax study --config=configs/study_cocktail.py --workdir=runs/study_cocktail

Around `configs/mnist_cocktail.py`, which was chosen by hand: the experiment's own network, images
and splits, distortions, dropout, label smoothing, decoupled decay, sharpness-aware steps, one
cosine cycle, an average of the weights, with and without mixup. Settings are chosen on `select`;
each arm's best is trained again on ten fresh seeds and splits, and looked at once on `test`. Meant
for a GPU: on two CPU cores, beside other work, its 36 runs took 2.3 hours.
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
        epochs=180,
        batch_size=32,
        checkpoint_every=180,
        data=DataConfig(
            name="tfds:mnist", train=1000, valid=2000, select=5000, test=10000, stratified=False
        ),
        augment=AugmentConfig(
            thickness=0.5,
            degrees=15,
            translate=0.1,
            scale=0.15,
            shear=15,
            elastic_alpha=40,
            elastic_sigma=6,
            mix_alpha=0.2,
        ),
        model=ModelConfig(name="cnn", norm="batch", dropout_rate=0.3),
        loss=LossConfig(label_smoothing=0.1),
        optimizer=OptimizerConfig(
            name="adamw",
            learning_rate=0.006,
            weight_decay=0.02,
            sam_rho=0.1,
            average="ema",
            average_decay=0.99,
            schedule=ScheduleConfig("cosine", warmup_epochs=3),
        ),
        stopping=StoppingConfig("never", monitor="train_loss", mode="min"),
        study=SearchConfig(
            name="cocktail",
            arms=sweeps.over("augment.mix", ["none", "mixup"]),
            ranges={
                "optimizer.learning_rate": Range(3e-3, 1.2e-2, log=True),
                "optimizer.weight_decay": Range(3e-3, 0.1, log=True),
                "model.dropout_rate": Range(0.1, 0.5),
                "optimizer.sam_rho": Range(0.03, 0.3, log=True),
                "loss.label_smoothing": Range(0.01, 0.1, log=True),
                "augment.thickness": Range(0.2, 0.8),
                "augment.degrees": Range(5.0, 20.0),
                "augment.shear": Range(5.0, 20.0),
                "augment.scale": Range(0.05, 0.2),
                "augment.translate": Range(0.03, 0.12),
                "augment.elastic_alpha": Range(15.0, 60.0),
            },
            trials=8,
            confirm=10,
        ),
    )
