"""What a study would run, and what that would take, from an epoch of each of its programs."""

import math
import time
from typing import NamedTuple

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regjax import config as config_lib
from regjax import feed
from regjax.assembly import Assembled
from regjax.config import StudyConfig
from regjax.progress import say
from regjax.studies import coordinator, plan, report, words
from regjax.studies.shared import Shared
from regjax.sweeps import Setting


class Cost(NamedTuple):
    """What a program takes: seconds to compile it and of an epoch, bytes of data and network."""

    compile: float
    epoch: float
    bytes: float


def show(study: StudyConfig, console: Console) -> None:
    """Prints arms, ranges, trials, programs, memory and time; trains two epochs a program.

    Raises:
      InputError: a study that cannot work.
    """
    study = coordinator.check(study)
    search = study.study
    table = Table("arm", "setting", "searched")
    for arm in search.arms:
        searched = ", ".join(plan.applying(study, arm)) or "nothing"
        table.add_row(Text(plan.label(search.arms, arm)), Text(str(arm)), searched)
    console.print(table)
    for name, r in search.ranges.items():
        say(console, f"{name}: {report.range_text(r)}")
    runs = plan.budget(study) * search.seeds + len(search.arms) * search.confirm
    lanes = coordinator.lanes(study)
    say(console, f"protocol {search.protocol}, sampler {search.sampler}")
    say(
        console,
        f"{plan.budget(study)} trials, {runs} runs in all with the confirmation, {lanes} at once",
    )
    costs, keys = _costs(study)
    programs, exact = _programs(study, keys)
    slowest = max(cost.compile for cost in costs.values())
    seconds = _run_seconds(study, costs, keys)
    memory = max(cost.bytes for cost in costs.values()) * lanes / 2**20
    up_to = "" if exact else "up to "
    say(
        console, f"{up_to}{words.many(programs, 'program')} to compile, {slowest:.1f} s the slowest"
    )
    say(console, f"about {memory:,.0f} MiB for data and networks, were all of the largest arm")
    say(
        console,
        f"{max(cost.epoch for cost in costs.values()):.3f} s an epoch of the slowest arm: about "
        f"{words.clock((seconds + programs * slowest) / lanes)} if no run stops early",
    )


def _costs(study: StudyConfig) -> tuple[dict[str, Cost], list[list[str]]]:
    """The cost of each program at the ends of the ranges, and which programs those of each arm are.

    Those between the ends are taken to cost no more.
    """
    shared, costs, keys = Shared(), {}, []
    for arm in study.study.arms:
        keys.append([])
        for config in plan.ends(study, arm):
            parts = shared.assemble(config)
            key = f"{shared.program_key(parts)} {config.data!r}"
            if key not in costs:
                costs[key] = _measure(parts)
            keys[-1].append(key)
    return costs, keys


def _programs(study: StudyConfig, keys: list[list[str]]) -> tuple[int, bool]:
    """How many programs there are to compile at most, and whether it is known to be that many."""
    known = {of[0] for of in keys if of[0] == of[-1]}
    trials = study.study.trials  # of an arm; in one search of all arms, which may all be of one
    others = [
        int(min(trials, _structures(study, arm)))
        for arm, of in zip(study.study.arms, keys, strict=True)
        if of[0] != of[-1]
    ]
    most = len(known) + sum(others)
    return min(most, plan.budget(study)), not others


def _structures(study: StudyConfig, arm: Setting) -> float:
    """How many programs the ranges of an arm may need: one a value, but of traced numbers."""
    metadata = {name: known for name, _, known in config_lib.fields()}
    count = 1.0
    for name, r in plan.applying(study, arm).items():
        if metadata[name].get("traced"):
            off = metadata[name]["off"]
            count *= 1 + (off is not None and r.low <= off <= r.high)
        else:
            count *= r.high - r.low + 1 if r.integer else math.inf
    return max(count, 2)


def _run_seconds(study: StudyConfig, costs: dict[str, Cost], keys: list[list[str]]) -> float:
    """Of all runs, each arm's at the end of its ranges that takes longest."""
    search = study.study
    runs = [
        max(config.epochs for config in plan.ends(study, arm)) * max(costs[k].epoch for k in of)
        for arm, of in zip(search.arms, keys, strict=True)
    ]
    of_all = sum(runs) if search.protocol == "balanced" else max(runs)
    return of_all * search.trials * search.seeds + sum(runs) * search.confirm


def _measure(parts: Assembled) -> Cost:
    fed = feed.resident(parts)
    arrays = fed.whole, fed.held_out
    started = time.perf_counter()
    functions = parts.program()
    run = functions.init(*parts.start())
    compiled = functions.compiled(parts.strengths, run, *arrays)
    compile_seconds = time.perf_counter() - started
    memory = compiled.train_steps.memory_analysis()
    run, _ = jax.block_until_ready(compiled.run_epoch(parts.strengths, run, *arrays))
    started = time.perf_counter()
    jax.block_until_ready(compiled.run_epoch(parts.strengths, run, *arrays))
    return Cost(
        compile_seconds,
        time.perf_counter() - started,
        float(memory.argument_size_in_bytes + memory.temp_size_in_bytes if memory else 0),
    )
