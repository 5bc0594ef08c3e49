"""The fields of a run and of a study, by sections.

Each number carries the interval it must lie in and each name the choices it has. `traced` numbers
(`regjax.strengths`) may change without a new program; all else is structure.
"""

import typing
from dataclasses import dataclass, field
from typing import Any, Optional

from regjax.config.field_types import Fields, one_of, traced, within
from regjax.sweeps import Range

AnyConfig = typing.TypeVar("AnyConfig", bound="Config")
Number = Optional[float]  # noqa: UP045 - ml_collections' flags know no `float | None`

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
    final: float = traced(0.0, "[0, 1]")  # cosine: rate at its end / first rate
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
    eval_batch_size: int = within(250, "[1, inf)")  # at most
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
    # the very program of `train`, in processes; or vmap: as one program (auto: but on a CPU)
    lane: str = one_of("auto", "auto", "process", "vmap")
    lanes: int = within(0, "[0, 1024]", auto=0)  # trials at once; auto: chosen for the machine
    heartbeat: float = within(600.0, "[1, inf)")  # seconds; silent for longer, a worker is dead


@dataclass
class StudyConfig(Config):
    """A study: a run's config, and what is varied in it. Every run is that config with changes."""

    study: SearchConfig = field(default_factory=SearchConfig)


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
