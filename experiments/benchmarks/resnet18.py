"""ResNet-18 on images of 32×32, in half precision: the config of a benchmark, on random images."""

from regjax.config import Config, DataConfig, ModelConfig, OptimizerConfig, StoppingConfig


def get_config() -> Config:
    """Returns the config; `--random_images` gives it data."""
    return Config(
        epochs=10,
        batch_size=256,
        eval_batch_size=640,
        data=DataConfig(train=-1, valid=0.2, select=0, test=0, stratified=False),
        model=ModelConfig(
            name="resnet",
            depth=18,
            channels=(64, 128, 256, 512),
            shortcut="projection",
            norm="batch",
            precision="bfloat16",
        ),
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=5e-4),
        stopping=StoppingConfig("never"),
    )
