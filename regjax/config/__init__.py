"""A run's settings as typed dataclasses, checked before anything is computed.

A config file is Python with a `get_config()` that returns a `Config`; the command line overrides
single fields (`--config.optimizer.learning_rate=0.003`). One function, `check`, refuses what cannot
work.

This package imports neither JAX nor any part of regjax that does.
"""

from regjax.config.checks import check
from regjax.config.field_types import plain_type
from regjax.config.files import from_json, load, to_json
from regjax.config.names import differences, fields, flatten, suggest_field, with_setting
from regjax.config.sections import (
    AnyConfig,
    AugmentConfig,
    Config,
    ConstraintConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ParallelConfig,
    PenaltyConfig,
    ScheduleConfig,
    SearchConfig,
    StoppingConfig,
    StudyConfig,
    maximized,
    score_name,
)

__all__ = [
    "AnyConfig",
    "AugmentConfig",
    "Config",
    "ConstraintConfig",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "PenaltyConfig",
    "ScheduleConfig",
    "SearchConfig",
    "StoppingConfig",
    "StudyConfig",
    "check",
    "differences",
    "fields",
    "flatten",
    "from_json",
    "load",
    "maximized",
    "plain_type",
    "score_name",
    "suggest_field",
    "to_json",
    "with_setting",
]
