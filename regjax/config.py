"""A run's settings as typed dataclasses, checked before anything is computed.

A config file is Python with a `get_config()` that returns a `Config`; the command line overrides
single fields (`--config.optimizer.learning_rate=0.003`). Each number carries the interval it must
lie in and each name the choices it has, so one function, `check`, refuses what cannot work.
`traced` numbers (`regjax.strengths`) may change without a new program; all else is structure.

This module imports neither JAX nor any part of regjax that does.
"""

import copy
import dataclasses
import functools
import importlib.util
import inspect
import json
import math
import numbers
import re
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from regjax.errors import InputError, did_you_mean
from regjax.sweeps import Range

AnyConfig = typing.TypeVar("AnyConfig", bound="Config")
Number = Optional[float]  # noqa: UP045 - ml_collections' flags know no `float | None`


def within(default: Any, interval: str, **words: Any) -> Any:
    """A number field that must lie in `interval`, written "[0, 1)" with inf for no bound.

    A word, as in `auto=0`, may be given in place of the number that it stands for.
    """
    return field(default=default, metadata={"interval": interval, "words": words})


def traced(default: Any, interval: str, off: float | None = None) -> Any:
    """A number field that is traced; at `off`, and at None, it is left out of the program."""
    return field(default=default, metadata={"interval": interval, "traced": True, "off": off})


def one_of(default: str, *choices: str, prefix: str = "") -> Any:
    """A text field that must be one of `choices`, or begin with `prefix` if there is one."""
    return field(default=default, metadata={"choices": choices, "prefix": prefix})


SCHEME_NAMES = (
    "torch_default",
    "xavier_uniform",
    "xavier_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
    "orthogonal",
    "delta_orthogonal",
    "identity",
    "sparse",
    "normal",
    "truncated_normal",
    "uniform",
    "constant",
    "zeros",
)
NORM_NAMES = ("batch", "layer", "group", "instance", "rms", "ghost_batch", "batch_renorm")
DROPOUT_NAMES = ("dropout", "alpha", "spatial", "drop_block", "variational", "connect", "depth")
PENALTY_NAMES = (
    "l1",
    "l2",
    "elastic",
    "group_lasso",
    "nuclear",
    "orthogonality",
    "max_norm",
    "jacobian",
    "entropy",
)
PROXIMAL_NAMES = PENALTY_NAMES[:5]  # those that have a proximal operator


class Fields:
    """Base of the config classes: an unknown field is refused by name, not silently set."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dataclass_fields__:  # pyright: ignore[reportAttributeAccessIssue]
            raise InputError(_unknown(type(self), name))
        object.__setattr__(self, name, value)


def _unknown(cls: type, name: str) -> str:
    valid = [f.name for f in dataclasses.fields(cls)]
    return (
        f"{cls.__name__} has no field '{name}'{did_you_mean(name, valid)}; "
        f"its fields are {', '.join(valid)}"
    )


@dataclass
class DataConfig(Fields):
    """Which data, and how it is divided.

    A split's size is a count (1 and more), a share of the pool (below 1), or -1 for all that is
    left; 0 leaves it empty. For a set with a test split of its own, `test` is drawn from that and
    the others from its training split; otherwise all four are drawn from the one pool.
    """

    name: str = "digits"  # digits, tfds:NAME, npz:PATH or csv:PATH
    data_dir: str = ""  # where TFDS keeps prepared sets; "": TFDS_DATA_DIR, else TFDS's default
    manual_dir: str = ""  # original files of a set, to prepare it without network
    task: str = one_of("classification", "classification", "regression")
    target: str = ""  # csv: the column to predict
    missing: str = one_of("refuse", "refuse", "impute")  # csv: median of the training split
    train: float = within(-1, "[-1, inf)")
    valid: float = within(0.1, "[-1, inf)")  # decides when to stop
    select: float = within(0.1, "[-1, inf)")  # chooses hyper-parameters
    test: float = within(0.2, "[-1, inf)")  # looked at once
    stratified: bool = True  # by class; in regression by tenths of the target's distribution
    split_seed: int = within(-1, "[-1, inf)")  # -1: the run's seed
    # tfds: read from disk while training; auto: a set that decoded takes more than `memory`
    stream: str = one_of("auto", "auto", "always", "never")
    memory: float = within(4.0, "(0, inf)")  # GiB
    workers: int = within(-1, "[-1, inf)", auto=-1)  # processes that read; 0: a thread of the run's
    scaling: str = one_of("symmetric", "symmetric", "unit", "standardize", "none")


@dataclass
class AugmentConfig(Fields):
    """What is done to each batch of training images; every number at 0 is off."""

    thickness: float = traced(0.0, "[0, 1]", off=0)  # of strokes, by up to ± this part of a pixel
    degrees: float = traced(0.0, "[0, 180]", off=0)  # rotation by up to ±
    translate: float = traced(0.0, "[0, 1]", off=0)  # by up to ± this share of the side
    scale: float = traced(0.0, "[0, 1)", off=0)  # by a factor of 1 ± up to this
    shear: float = traced(0.0, "[0, 90)", off=0)  # by up to ± degrees
    elastic_alpha: float = traced(0.0, "[0, inf)", off=0)  # Simard et al. (2003): 34, σ 4
    elastic_sigma: float = traced(4.0, "[0, inf)")
    shift: float = traced(0.0, "[0, inf)", off=0)  # by up to ± whole pixels
    flip: float = traced(0.0, "[0, 1]", off=0)  # probability of the mirror image
    cutout: float = traced(0.0, "[0, inf)", off=0)  # side of the square, in pixels
    fill: float = traced(0.0, "(-inf, inf)")  # of what comes in, in the data's own units
    mix: str = one_of("none", "none", "mixup", "cutmix")
    mix_alpha: float = traced(0.2, "[0, inf)")  # λ ~ Beta(α, α)
    mix_per_example: bool = False  # a λ for each example, not one a batch


@dataclass
class ModelConfig(Fields):
    """The network: structure, except for the dropout rate."""

    # or a network of your own, file:PATH:NAME
    name: str = one_of("mlp", "mlp", "cnn", "resnet", "rnn", "vit", prefix="file:")
    widths: tuple[int, ...] = within((128, 128), "[1, inf)")  # mlp, rnn: one hidden layer each
    # mlp, resnet, vit (the paper has gelu), elman cell
    activation: str = one_of("relu", "relu", "leaky_relu", "tanh", "sigmoid", "gelu", "selu")
    residual: bool = False  # mlp: x + f(x) where the width does not change
    dropout: str = one_of("dropout", *DROPOUT_NAMES)  # not every network has a place for each
    dropout_rate: float = traced(0.0, "[0, 1]", off=0)
    dropout_block: int = within(3, "[1, inf)")  # drop_block: side of a block
    norm: str = one_of("none", "none", *NORM_NAMES)
    norm_groups: int = within(4, "[1, inf)")  # group: of the channels; ghost_batch: of the batch
    norm_momentum: float = within(0.1, "(0, 1]")  # batch norms: weight of the new statistics
    norm_epsilon: float = within(1e-5, "(0, inf)")
    initializer: str = one_of("torch_default", *SCHEME_NAMES)
    initializer_scale: float = within(1.0, "[0, inf)")  # gain; std of normal, bound of uniform, ...
    bias: Number = within(None, "(-inf, inf)")  # how biases start; None: as the initializer has it
    rescale: str = one_of("none", "none", "lsuv", "fixup")  # the start, by data or by depth
    kernels: str = one_of("plain", "plain", "standardized", "weight_norm", "spectral_norm")
    kernels_mask: str = "hidden_kernels"  # which of them `kernels` is for, as penalty.mask
    depth: int = within(8, "[1, inf)")  # resnet: layers, 6n + 2 for 3 stages; vit: encoder blocks
    channels: tuple[int, ...] = within((16, 32, 64), "[1, inf)")  # resnet: one stage each
    shortcut: str = one_of("pad", "pad", "projection")  # resnet: option A, option B
    preactivation: bool = False  # resnet: norm and activation before each convolution
    zero_init: bool = False  # resnet: the scale of each block's last norm starts at 0
    cell: str = one_of("gru", "elman", "gru", "lstm")  # rnn
    steps: str = one_of("rows", "rows", "pixels")  # rnn: what it reads at a time
    recurrent_initializer: str = one_of("orthogonal", *SCHEME_NAMES)  # rnn
    forget_bias: float = within(0.0, "(-inf, inf)")  # lstm cell: constant; often 1
    patch_size: int = within(4, "[1, inf)")  # vit: side, in pixels
    token_width: int = within(64, "[1, inf)")  # vit
    heads: int = within(4, "[1, inf)")  # vit
    mlp_ratio: int = within(4, "[1, inf)")  # vit: hidden width / token width
    pooling: str = one_of("token", "token", "mean")  # vit: what the head reads
    # of its arithmetic; parameters, statistics, logits, loss and optimizer keep float32
    precision: str = one_of("float32", "float32", "bfloat16")
    softmax_before_loss: bool = False  # cross-entropy of the softmax, as some notebooks have it


@dataclass
class LossConfig(Fields):
    """The data loss."""

    name: str = one_of("cross_entropy", "cross_entropy", "focal", "mean_squared")
    label_smoothing: float = traced(0.0, "[0, 1]")
    smoothing: str = one_of("all", "all", "others")  # classes that ε is spread over
    gamma: float = traced(2.0, "[0, inf)")  # focal


@dataclass
class PenaltyConfig(Fields):
    """What is added to the data loss: strength · Ω, or in its place a proximal step."""

    name: str = one_of("none", "none", *PENALTY_NAMES)
    strength: float = traced(0.0, "[0, inf)")  # λ
    mask: str = "kernels"  # kernels, hidden_kernels, all, or globs: conv_*/kernel,head/kernel
    scale: str = one_of("sum", "sum", "mean", "per_example")  # λ, λ/p for p weights, λ/n
    mode: str = one_of("loss", "loss", "proximal")  # proximal: after each update, exact zeros
    l1_ratio: float = traced(0.5, "[0, 1]")  # elastic
    groups: str = one_of("outputs", "outputs", "inputs")  # group_lasso
    radius: float = traced(1.0, "(0, inf)")  # max_norm


@dataclass
class ConstraintConfig(Fields):
    """What the weights are projected on after each update."""

    name: str = one_of("none", "none", "max_norm", "l1_ball", "unit")
    radius: float = traced(1.0, "(0, inf)")  # max_norm: of each unit; l1_ball: of all together
    mask: str = "kernels"  # as penalty.mask


@dataclass
class ScheduleConfig(Fields):
    """How the learning rate changes, in epochs."""

    name: str = one_of("constant", "constant", "cosine", "step")
    warmup_epochs: float = traced(0.0, "[0, inf)")
    final: float = traced(0.0, "[0, 1]")  # cosine: last rate / first rate
    step_epochs: float = traced(10.0, "(0, inf)")  # step: epochs between cuts
    factor: float = traced(0.1, "(0, 1]")  # step: what each cut multiplies by


@dataclass
class OptimizerConfig(Fields):
    """The optimizer; numbers that it does not have are ignored, None is its convention's."""

    name: str = one_of("adam", "sgd", "adam", "adamw", "rmsprop", "adagrad")
    learning_rate: float = traced(1e-3, "(0, inf)")
    convention: str = one_of("torch", "torch", "optax", "keras")  # whose formula and defaults
    momentum: float = traced(0.0, "[0, 1)", off=0)  # sgd, rmsprop
    dampening: float = traced(0.0, "[0, 1]", off=0)  # sgd
    nesterov: bool = False  # sgd
    b1: Number = traced(None, "[0, 1)")  # adam, adamw
    b2: Number = traced(None, "[0, 1)")  # adam, adamw
    alpha: Number = traced(None, "[0, 1)")  # rmsprop: decay of the squared gradients
    centered: bool = False  # rmsprop
    epsilon: Number = traced(None, "(0, inf)")  # all but sgd
    weight_decay: Number = traced(None, "[0, inf)")  # None: adamw its convention's, others none
    decay: str = one_of("default", "default", "coupled", "decoupled", "independent")
    decay_mask: str = "kernels"  # as penalty.mask; torch and optax decay all parameters
    clip: str = one_of("none", "none", "norm", "value", "leaf_norm", "adaptive")
    clip_threshold: float = traced(1.0, "(0, inf)")
    noise: float = traced(0.0, "[0, inf)", off=0)  # η of the gradients' noise, as 0.3
    noise_gamma: float = traced(0.55, "[0, inf)")  # γ, how fast it falls
    sam_rho: float = traced(0.0, "[0, inf)", off=0)  # sharpness-aware minimization, as 0.05
    average: str = one_of("none", "none", "ema", "swa")  # weights that are evaluated instead
    average_decay: float = traced(0.999, "[0, 1)")  # ema
    # swa: epochs before the first that counts; until then the weights themselves are evaluated
    average_start: float = traced(0.0, "[0, inf)")
    average_every: float = traced(1.0, "(0, inf)")  # swa: epochs from one to the next
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)


@dataclass
class StoppingConfig(Fields):
    """When to stop, and what comes after; without a refit the best epoch's weights are the result.

    A refit trains on train + valid (Goodfellow, Bengio & Courville 2016, section 7.8): `restart`
    from the start, for as long as led to the best epoch; `continue` from its weights, until the
    validation examples' loss is down to what the training examples' was there.
    """

    name: str = one_of("patience", "patience", "gl", "pq", "up", "never")
    monitor: str = one_of(
        "valid_accuracy", "valid_accuracy", "valid_r2", "valid_loss", "train_loss"
    )
    mode: str = one_of("max", "max", "min")
    patience: int = traced(5, "[0, inf)")  # misses that stop the run; 0: never stop early
    min_delta: float = traced(0.0, "[0, inf)")  # patience
    start_epoch: int = traced(0, "[0, inf)")  # patience: epochs before it are not misses
    alpha: float = traced(5.0, "[0, inf)")  # gl: percent; pq
    strip: int = traced(5, "[1, inf)")  # pq, up: evaluated epochs between looks
    strips: int = traced(3, "[1, inf)")  # up: strips in a row that rise
    stop_on_nan: bool = True
    refit: str = one_of("none", "none", "restart", "continue")
    refit_by: str = one_of("epochs", "epochs", "steps")  # restart: as many passes, or updates


@dataclass
class ParallelConfig(Fields):
    """The devices that share each batch; without dropout, augmentation and the Jacobian penalty
    numbers depend on them by rounding only.

    `jit` is one program of the whole batch, divided by XLA; a batch that the devices do not divide
    is padded, and draws other random numbers. `pmap` runs the program on every device with its part
    of the batch, each with random numbers of its own.
    """

    mode: str = one_of("jit", "jit", "pmap", "single")
    devices: int = within(0, "[0, inf)", auto=0)  # auto: all there are
    shards: int = within(1, "[1, inf)")  # jit: devices that divide the parameters among them
    sync_norm: bool = True  # batch norm by the whole batch; else by each device's part


@dataclass
class Config(Fields):
    """One run: what `regjax train` needs and `config.json` records."""

    seed: int = within(0, "[0, 2147483647]")
    epochs: int = within(100, "[1, inf)")  # at most
    batch_size: int = within(32, "[1, inf)")
    accumulate: int = within(1, "[1, inf)")  # micro-batches a step, one after the other
    eval_batch_size: int = within(250, "[1, inf)")
    evaluate_every: int = within(1, "[1, inf)")  # epochs; what stops and is best is judged at these
    checkpoint_every: int = within(1, "[1, inf)")  # epochs; an epoch that improves is always kept
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    constraint: ConstraintConfig = field(default_factory=ConstraintConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    stopping: StoppingConfig = field(default_factory=StoppingConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)


@dataclass
class SearchConfig(Fields):
    """A study: which arms are compared, which numbers are searched, and on how many seeds."""

    name: str = "study"  # in the storage, which may hold several
    arms: list[dict[str, Any]] = field(default_factory=lambda: [{}])  # settings: see sweeps
    ranges: dict[str, Range] = field(default_factory=dict)  # the numbers that are searched
    protocol: str = one_of("balanced", "balanced", "optuna")  # equal trials per arm, or one search
    sampler: str = one_of("qmc", "qmc", "random", "grid", "tpe", "cmaes", "gp")
    trials: int = within(8, "[1, 1000000]")  # balanced: per arm; optuna: in all
    seeds: int = within(1, "[1, 1000]")  # runs of each trial, whose mean counts
    objective: str = one_of("select_accuracy", "select_accuracy", "select_r2", "select_loss")
    pruner: str = one_of("none", "none", "halving", "hyperband")
    patience: int = within(0, "[0, inf)")  # trials without improvement that end it; 0: all run
    confirm: int = within(10, "[0, 1000]")  # seeds and splits for each arm's best setting
    fresh: bool = True  # none of which the search has seen; else its own, as is often done
    # a process each, the very program of `train`; or vmap: as one program (auto: but on a CPU)
    lane: str = one_of("auto", "auto", "process", "vmap")
    lanes: int = within(0, "[0, 1024]", auto=0)  # trials at once; auto: chosen for the machine
    heartbeat: float = within(600.0, "[1, inf)")  # seconds; silent for longer, a worker is dead


@dataclass
class StudyConfig(Config):
    """A study: a run's config, and what is varied in it. Every run is that config with changes."""

    study: SearchConfig = field(default_factory=SearchConfig)


FLOAT32_MIN, FLOAT32_MAX = 1.1754944e-38, 3.4028234e38  # below the first, a CPU may take it for 0

# What differs from machine to machine and does not change a result.
PLACES = (
    "data.data_dir",
    "data.manual_dir",
    "data.memory",
    "data.workers",
    "parallel.mode",
    "parallel.devices",
    "parallel.shards",
    "study.lanes",
    "study.heartbeat",
)


def load(path: str) -> Config:
    """Runs a config file and returns what its `get_config()` returns, unchecked.

    Args:
      path: a Python file, or the `config.json` that a run or a study has left.

    Raises:
      InputError: no such file, not Python, no `get_config`, an error in it, or no `Config`.
    """
    file = Path(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise InputError(f"config file '{path}' {what}; give the path of a Python file")
    if file.suffix == ".json":
        return _load_json(file)
    if file.suffix != ".py":
        raise InputError(f"config file '{path}' is not a Python file; its name must end in .py")
    spec = importlib.util.spec_from_file_location("regjax_config_file", file)
    if spec is None or spec.loader is None:
        raise InputError(f"config file '{path}' cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise InputError("it has no function get_config(); define one that returns a Config")
        config = module.get_config()
    except InputError as error:
        raise InputError(f"config file '{path}': {error}") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise InputError(f"config file '{path}': {_describe(error, file)}") from error
    if inspect.iscoroutine(config):
        config.close()  # an async get_config: refused below, without Python's warning
    if not isinstance(config, Config):
        raise InputError(
            f"config file '{path}': get_config() returned {type(config).__name__}, "
            "expected a regjax.config.Config; is a return missing?"
        )
    return config


def _load_json(file: Path) -> Config:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config file '{file}' cannot be read: {error}") from error
    return from_json(text, str(file), StudyConfig if '"study"' in text else Config)


def _describe(error: BaseException, file: Path) -> str:
    """One line for an error raised by a config file, with its line where that is known."""
    unknown = re.match(
        r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error)
    )
    cls = getattr(sys.modules[__name__], unknown[1], None) if unknown else None
    if unknown and isinstance(cls, type) and issubclass(cls, Fields):
        return _unknown(cls, unknown[2])
    if isinstance(error, SyntaxError):
        return f"not valid Python, line {error.lineno}: {error.msg}"
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f" in line {line}" if line else ""
    return f"{type(error).__name__}{where}: {' '.join(str(error).split())}"


def check(config: AnyConfig) -> AnyConfig:
    """Returns the config with numbers made plain, or says what is wrong with the first bad field.

    Raises:
      InputError: a wrong type, a number outside its interval, an unknown choice, or fields that
        contradict each other.

    >>> check(Config(epochs=3)).epochs
    3
    >>> check(Config(penalty=PenaltyConfig(name="l1", strength=-1.0)))
    Traceback (most recent call last):
    ...
    regjax.errors.InputError: penalty.strength is -1.0, expected a number in [0, inf)
    """
    config = _checked(config, "")
    conflicts = (
        _task_conflict,
        _evaluate_conflict,
        _accumulate_conflict,
        _penalty_conflict,
        _stopping_conflict,
        _refit_conflict,
        _optimizer_conflict,
        _loss_conflict,
    )
    for conflict in conflicts:
        if message := conflict(config):
            raise InputError(message)
    return config


def maximized(metric: str) -> bool:
    """Whether larger is better.

    >>> maximized("valid_accuracy"), maximized("valid_loss")
    (True, False)
    """
    return metric.endswith(("accuracy", "r2"))


def score_name(config: Config) -> str:
    """What a network is judged by beside its loss: `accuracy`, or in regression `r2`.

    >>> score_name(Config())
    'accuracy'
    """
    return "r2" if config.data.task == "regression" else "accuracy"


def _task_conflict(config: Config) -> str | None:
    """What a regression cannot have, all of it together: the defaults are a classification's."""
    regression = config.data.task == "regression"
    lacking = "_accuracy" if regression else "_r2"
    wanted = {}
    if regression and config.loss.name != "mean_squared":
        wanted["loss.name"] = "mean_squared"
    if config.stopping.monitor.endswith(lacking):
        better = ("valid_loss", "min") if regression else ("valid_accuracy", "max")
        wanted["stopping.monitor"], wanted["stopping.mode"] = better
    if isinstance(config, StudyConfig) and config.study.objective.endswith(lacking):
        wanted["study.objective"] = "select_r2" if regression else "select_accuracy"
    if regression and config.penalty.name == "entropy":
        wanted["penalty.name"] = "none, or one of weights"
    if not wanted:
        return None
    changes = ", ".join(f"{name} to {value}" for name, value in wanted.items())
    return f"data.task is '{config.data.task}', so set {changes}"


def _evaluate_conflict(config: Config) -> str | None:
    if config.evaluate_every <= config.epochs:
        return None
    return (
        f"evaluate_every is {config.evaluate_every}, which none of the {config.epochs} epochs "
        "reaches; lower it, or raise epochs"
    )


def _accumulate_conflict(config: Config) -> str | None:
    if config.batch_size % config.accumulate == 0:
        return None
    return (
        f"accumulate is {config.accumulate}, which does not divide batch_size "
        f"{config.batch_size} into micro-batches; change either"
    )


def _penalty_conflict(config: Config) -> str | None:
    penalty = config.penalty
    if penalty.name == "none" and penalty.strength > 0:
        return (
            f"penalty.strength is {penalty.strength} but penalty.name is 'none', so it would do "
            "nothing; set penalty.name, e.g. to l1, l2 or elastic"
        )
    if penalty.mode == "proximal" and penalty.name not in ("none", *PROXIMAL_NAMES):
        return (
            f"penalty.mode is 'proximal' but '{penalty.name}' has no proximal operator; set "
            f"penalty.mode to loss, or penalty.name to one of {', '.join(PROXIMAL_NAMES)}"
        )
    return None


def _stopping_conflict(config: Config) -> str | None:
    stopping = config.stopping
    if stopping.mode != ("max" if maximized(stopping.monitor) else "min"):
        return (
            f"stopping.mode is '{stopping.mode}' for stopping.monitor '{stopping.monitor}'; "
            "an accuracy or R² is maximized (max), a loss minimized (min)"
        )
    if stopping.name in ("gl", "pq") and stopping.mode == "max":
        return (
            f"stopping.name is '{stopping.name}', which watches a loss, but stopping.monitor is "
            f"'{stopping.monitor}'; set it to valid_loss and stopping.mode to min"
        )
    return None


def _refit_conflict(config: Config) -> str | None:
    stopping = config.stopping
    if stopping.refit != "restart" and stopping.refit_by == "steps":
        return (
            f"stopping.refit_by is 'steps' but stopping.refit is '{stopping.refit}', so it would "
            "do nothing; set stopping.refit to restart"
        )
    if stopping.refit != "none" and not stopping.monitor.startswith("valid"):
        return (
            f"stopping.refit is '{stopping.refit}' but stopping.monitor is '{stopping.monitor}', "
            "so nothing held out says how long to train; set it to valid_loss, or stopping.refit "
            "to none"
        )
    return None


def _optimizer_conflict(config: Config) -> str | None:
    optimizer = config.optimizer
    if optimizer.nesterov and optimizer.momentum == 0:
        return "optimizer.nesterov needs optimizer.momentum above 0; set it, e.g. to 0.9"
    first = optimizer.average_start + optimizer.average_every
    if optimizer.average == "swa" and first > config.epochs:
        return (
            f"optimizer.average is 'swa', which begins after epoch {first:g} (average_start + "
            f"average_every), but there are {config.epochs}; lower these, or raise epochs"
        )
    if optimizer.name == "adamw" and optimizer.decay == "coupled":
        return (
            "optimizer.decay is 'coupled', but what makes optimizer.name 'adamw' is decoupled "
            "decay; set optimizer.name to adam"
        )
    return None


def _loss_conflict(config: Config) -> str | None:
    loss = config.loss
    if loss.name != "cross_entropy" and (loss.label_smoothing or config.model.softmax_before_loss):
        name = "loss.label_smoothing" if loss.label_smoothing else "model.softmax_before_loss"
        return f"{name} is set but loss.name is '{loss.name}'; set loss.name to cross_entropy"
    return None


def _checked(section: Any, prefix: str) -> Any:
    hints = typing.get_type_hints(type(section))
    values = {}
    for f in dataclasses.fields(section):
        value, name = getattr(section, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(hints[f.name]):
            if not isinstance(value, hints[f.name]):
                expected = hints[f.name].__name__
                raise InputError(f"{name} is a {type(value).__name__}, expected a {expected}")
            values[f.name] = _checked(value, f"{name}.")
        elif typing.get_origin(hints[f.name]) is tuple:
            values[f.name] = _checked_tuple(value, hints[f.name], f.metadata, name)
        elif typing.get_origin(hints[f.name]) in (list, dict):
            values[f.name] = _checked_container(value, typing.get_origin(hints[f.name]), name)
        else:
            values[f.name] = _checked_value(value, hints[f.name], f.metadata, name)
    return type(section)(**values)


def _checked_tuple(value: Any, hint: Any, metadata: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, (tuple, list)):
        raise InputError(f"{name} is {value!r}, expected a tuple such as (128, 128)")
    kind = typing.get_args(hint)[0]
    return tuple(_checked_value(v, kind, metadata, f"{name}[{i}]") for i, v in enumerate(value))


def _checked_container(value: Any, kind: Any, name: str) -> Any:
    """A list or dict, as it is; `regjax.studies.plan` looks at what is in it."""
    if not isinstance(value, kind):
        raise InputError(f"{name} is {value!r}, expected a {kind.__name__}")
    if kind is dict:
        return value
    try:
        return json.loads(json.dumps(value))  # as it will be read from config.json
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds what JSON cannot: {error}") from error


def _checked_value(value: Any, hint: Any, metadata: Any, name: str) -> Any:
    kind = plain_type(hint)
    if value is None and kind is not hint:
        return None
    if isinstance(value, str):
        value = metadata.get("words", {}).get(value, value)
    accepted = {float: numbers.Real, int: numbers.Integral}.get(kind, kind)
    if not isinstance(value, accepted) or (kind in (int, float) and isinstance(value, bool)):
        article = "an int" if kind is int else f"a {kind.__name__}"
        raise InputError(f"{name} is {value!r} ({type(value).__name__}), expected {article}")
    value = kind(value)  # pyright: ignore[reportArgumentType] - None ended above
    size = abs(value) if kind is float and math.isfinite(value) else 0.0
    if size and not FLOAT32_MIN <= size <= FLOAT32_MAX:
        raise InputError(f"{name} is {value}, expected a number that float32 can hold")
    choices, interval = metadata.get("choices"), metadata.get("interval")
    prefix = metadata.get("prefix")
    if choices and value not in choices and not (prefix and value.startswith(prefix)):
        hint = did_you_mean(value, choices)
        known = ", ".join([*choices, *([f"{prefix}..."] if prefix else [])])
        raise InputError(f"{name} is '{value}', expected one of {known}{hint}")
    if interval and not _inside(value, interval):
        raise InputError(f"{name} is {value}, expected a number in {interval}")
    return value


def plain_type(hint: Any) -> Any:
    """The type of a field's values, None aside.

    >>> plain_type(Number)
    <class 'float'>
    """
    options = typing.get_args(hint) if typing.get_origin(hint) is typing.Union else [hint]
    return next(t for t in options if t is not type(None))


def _inside(value: float, interval: str) -> bool:
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


def flatten(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted field name, value) for every field.

    >>> dict(flatten(Config()))["optimizer.name"]
    'adam'
    """
    for f in dataclasses.fields(section):
        value = getattr(section, f.name)
        if dataclasses.is_dataclass(value):
            yield from flatten(value, f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", value


def fields(cls: type = Config, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields (dotted field name, type hint, metadata) for every field.

    >>> next(name for name, _, metadata in fields() if metadata.get("traced"))
    'augment.thickness'
    """
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[f.name]):
            yield from fields(hints[f.name], f"{prefix}{f.name}.")
        else:
            yield f"{prefix}{f.name}", hints[f.name], f.metadata


def with_setting(config: Config, setting: dict[str, Any]) -> Config:
    """Returns a copy of a config with some fields set, by their dotted names, unchecked.

    Raises:
      InputError: no such field.

    >>> with_setting(Config(), {"optimizer.learning_rate": 0.1}).optimizer.learning_rate
    0.1
    """
    fields = dict(flatten(config))
    new = copy.deepcopy(config)
    for name, value in setting.items():
        if name not in fields:
            raise InputError(suggest_field(name, type(config)))
        *sections, last = name.split(".")
        setattr(functools.reduce(getattr, sections, new), last, value)
    return new


def differences(old: Config, new: Config) -> list[str]:
    """Returns "field: old there, new here" for each field that would change the result.

    >>> differences(Config(seed=1), Config(seed=2))
    ['seed: 1 there, 2 here']
    """
    there, here = dict(flatten(old)), dict(flatten(new))
    return [
        f"{name}: {there[name]!r} there, {here[name]!r} here"
        for name in here
        if name not in PLACES and there[name] != here[name]
    ]


def to_json(config: Config) -> str:
    """Returns the config as JSON text that `from_json` reads back."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str, source: str, kind: type[AnyConfig] = Config) -> AnyConfig:
    """Reads what `to_json` wrote.

    Args:
      text: JSON.
      source: the file's name, for messages.
      kind: `Config` or `StudyConfig`.

    Raises:
      InputError: not JSON, unknown fields, or values that `check` refuses.

    >>> from_json(to_json(Config(seed=3)), "config.json").seed
    3
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"holds a {type(values).__name__}, expected an object")
    except ValueError as error:
        raise InputError(
            f"'{source}' is not a regjax config: {error}; restore it, or give another folder"
        ) from error
    if ("study" in values) != (kind is StudyConfig):
        there, here = ("study", "run") if "study" in values else ("run", "study")
        raise InputError(f"'{source}' is of a {there}, expected that of a {here}")
    try:
        return check(_from_dict(kind, values))
    except InputError as error:
        raise InputError(f"'{source}' is not a config of this version: {error}") from error


def _from_dict(cls: type, values: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(cls)
    given = {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(_unknown(cls, name))
        nested = dataclasses.is_dataclass(hints[name]) and isinstance(value, dict)
        given[name] = _from_dict(hints[name], value) if nested else value
        if hints[name] == dict[str, Range] and isinstance(value, dict):
            given[name] = {key: _from_dict(Range, ends) for key, ends in value.items()}
    return cls(**given)


def suggest_field(name: str, kind: type[Config] = Config) -> str:
    """Says that a dotted field does not exist, with the closest that does.

    >>> suggest_field("optimiser.learning_rate")[:66]
    "there is no config field 'optimiser.learning_rate' (did you mean '"
    """
    valid = [dotted for dotted, _ in flatten(kind())]
    hint = did_you_mean(name, valid) or did_you_mean(name, [*valid, *_sections(kind())])
    return f"there is no config field '{name}'{hint}; `regjax show` lists all fields"


def _sections(section: Any, prefix: str = "") -> Iterator[str]:
    for f in dataclasses.fields(section):
        value = getattr(section, f.name)
        if dataclasses.is_dataclass(value):
            yield f"{prefix}{f.name}"
            yield from _sections(value, f"{prefix}{f.name}.")
