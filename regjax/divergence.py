"""Where a run that stopped at a NaN went wrong: which epoch, which step, which parameter first.

Nothing of this is in the compiled epoch, which would pay for it at every step. The epochs since the
best checkpoint are run again instead, which gives the same numbers, and the bad one step by step.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from regjax import trees
from regjax.accumulation import make_gradient
from regjax.assembly import Assembled
from regjax.batch import Arrays
from regjax.state import RunState, TrainState
from regjax.step import evaluated, in_order, make_draw, make_train_step

PyTree = Any


class Divergence(NamedTuple):
    """Where the first number that is not finite came from.

    Attributes:
      epoch: the epoch, counted from 1.
      step: the step within it, counted from 1; None: every step's numbers were finite.
      what: of `parameter`: `gradient`, `value` or `statistic`; `loss` where these are all finite;
        `evaluation` where the whole training was.
      parameter: the first in the order of the network's modules; None: none.
      last_loss: the loss of the last step that had a finite one; None: there was none.
    """

    epoch: int
    step: int | None
    what: str
    parameter: str | None
    last_loss: float | None

    def __str__(self) -> str:
        """One clause.

        >>> str(Divergence(3, 7, "gradient", "conv_0/kernel", 12.5))
        'epoch 3, step 7: the gradient of conv_0/kernel (the last finite loss of a step was 12.5)'
        """
        where = f"epoch {self.epoch}" + (f", step {self.step}" if self.step else "")
        what = f"the {self.what}" + (f" of {self.parameter}" if self.parameter else "")
        if self.what == "evaluation":
            what = "the loss in evaluation, by parameters that are finite"
        before = ""
        if self.last_loss is not None:
            before = f" (the last finite loss of a step was {self.last_loss:.4g})"
        return f"{where}: {what}{before}"


def find(
    parts: Assembled,
    run_epoch: Callable[..., Any],
    run: RunState,
    train: Arrays,
    valid: Sequence[Arrays],
) -> Divergence | None:
    """Runs epochs until a loss is not finite, and that one again step by step.

    Args:
      parts: of the run.
      run_epoch: the run's compiled epoch.
      run: where to begin: the best checkpoint's, or the start; it is donated.
      train: the training split.
      valid: the validation split, in pieces.

    Returns:
      What was found; None where no loss of any epoch is such (on other devices than before).
    """
    for epoch in range(int(run.epoch) + 1, parts.config.epochs + 1):
        due = evaluated(parts.config.evaluate_every, epoch)
        losses = ("train_loss", "valid_loss") if due else ("train_loss",)
        before = jax.tree.map(jnp.copy, run)
        run, measured = run_epoch(parts.strengths, run, train, valid)
        if not all(jnp.isfinite(measured[name]) for name in losses if name in measured):
            return _in_epoch(parts, before, train)
    return None


def fields(found: Divergence, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What `result.json` says of it, with the metrics of the last epoch before it.

    Args:
      found: where it was.
      lines: the run's `metrics.jsonl`.

    >>> lines = [{"epoch": 1, "train_loss": 2.0, "seconds": 1.0}, {"epoch": 2, "train_loss": None}]
    >>> fields(Divergence(2, 5, "gradient", "head/bias", 9.0), lines)["last_finite_epoch"]
    {'epoch': 1, 'train_loss': 2.0}
    """
    before = [line for line in lines if line["epoch"] == found.epoch - 1]
    kept = [{k: v for k, v in line.items() if k not in ("seconds", "improved")} for line in before]
    return found._asdict() | {"last_finite_epoch": kept[0] if kept else None}


def _in_epoch(parts: Assembled, run: RunState, train: Arrays) -> Divergence:
    order = module_order(parts)
    epoch, last = int(run.epoch) + 1, None
    first = int(run.progress.position) + 1
    for number, (_, seen) in enumerate(steps(parts, run, train), start=first):
        loss = float(seen.pop("loss"))
        last = loss if math.isfinite(loss) else last
        for what, flags in seen.items():
            if bad := [name for name, finite in trees.named(flags).items() if not finite]:
                return Divergence(epoch, number, what, min(bad, key=order), last)
        if not math.isfinite(loss):
            return Divergence(epoch, number, "loss", None, last)
    return Divergence(epoch, None, "evaluation", None, last)


def steps(
    parts: Assembled, run: RunState, train: Arrays
) -> Iterator[tuple[TrainState, dict[str, PyTree]]]:
    """The steps left of a run's epoch one by one, as `step.make_train_steps` has them in a loop.

    Yields the state after each step, its `loss`, and by what (`gradient`, `value`, `statistic`)
    which leaves are finite. Under `pmap` the whole batch is one part, with other random numbers.
    """
    if parts.parallel.spread.axis_name is not None:
        parts = parts.alone()
    made = parts.general, parts.network, parts.parallel.spread
    draw, train_step, gradient = make_draw(*made), make_train_step(*made), make_gradient(*made)

    @jax.jit
    def one(strengths: Any, run: RunState, train: Arrays, rows: Any) -> Any:
        state = run.train
        batch, key = draw(strengths, run, state, train, rows)
        grads, measured = gradient(state.params, strengths, state.statistics, batch, key)
        new, _ = train_step(strengths, state, batch, key)
        seen = {"gradient": grads, "value": new.params, "statistic": new.statistics}
        flags = jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), seen)
        return new, {"loss": measured.sums["loss"].compute(), **flags}

    done = int(run.progress.position)
    batches = in_order(parts.general, run, train, parts.parallel.spread)
    for rows in zip(*(part[done:] for part in batches), strict=True):
        state, seen = one(parts.strengths, run, train, rows)
        run = run.replace(train=state)
        ordered = ("gradient", "value", "statistic")  # jit has sorted them
        yield state, {"loss": seen["loss"], **{what: seen[what] for what in ordered}}


def module_order(parts: Assembled) -> Callable[[str], tuple[int, str]]:
    """Returns a sort key of parameter paths: the order in which the network's modules are called.

    (A tree of parameters is sorted by name, in which `head` comes before `norm_0`.)
    """
    called: list[str] = []

    def look(inputs: jax.Array) -> None:
        called.extend(_names(parts.network.module.init(jax.random.key(0), inputs, train=False)))

    jax.eval_shape(look, jax.ShapeDtypeStruct((2, *parts.data.input_shape), jnp.float32))

    def key(name: str) -> tuple[int, str]:
        # A norm of weights has parameters beside the module's own, in the same folder.
        inside = [i for i, known in enumerate(called) if known == name] or [
            i for i, known in enumerate(called) if name.startswith(known.rsplit("/", 1)[0] + "/")
        ]
        return (inside[0] if inside else len(called), name)

    return key


def _names(variables: Any, prefix: str = "") -> Iterator[str]:
    """The paths in the order of the dicts' own, below the names of the collections."""
    for name, value in variables.items():
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{name}/" if prefix or name != "params" else "")
        else:
            yield f"{prefix}{name}"
