"""Fields that are right each by itself and contradict each other."""

from regjax.config.sections import PROXIMAL_NAMES, Config, StudyConfig, maximized


def find(config: Config) -> str | None:
    """What a config cannot mean, or None."""
    checks = (_task, _evaluate, _accumulate, _penalty, _stopping, _refit, _optimizer, _loss)
    return next((message for check in checks if (message := check(config))), None)


def _task(config: Config) -> str | None:
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


def _evaluate(config: Config) -> str | None:
    if config.evaluate_every <= config.epochs:
        return None
    return (
        f"evaluate_every is {config.evaluate_every}, which none of the {config.epochs} epochs "
        "reaches; lower it, or raise epochs"
    )


def _accumulate(config: Config) -> str | None:
    if config.batch_size % config.accumulate == 0:
        return None
    return (
        f"accumulate is {config.accumulate}, which does not divide batch_size "
        f"{config.batch_size} into micro-batches; change either"
    )


def _penalty(config: Config) -> str | None:
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


def _stopping(config: Config) -> str | None:
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


def _refit(config: Config) -> str | None:
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


def _optimizer(config: Config) -> str | None:
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


def _loss(config: Config) -> str | None:
    loss = config.loss
    if loss.name != "cross_entropy" and (loss.label_smoothing or config.model.softmax_before_loss):
        name = "loss.label_smoothing" if loss.label_smoothing else "model.softmax_before_loss"
        return f"{name} is set but loss.name is '{loss.name}'; set loss.name to cross_entropy"
    return None
