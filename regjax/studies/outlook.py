"""What a study would run, and what that would take, from one epoch of its first arm."""

import time
from typing import Any

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regjax import assembly
from regjax.config import StudyConfig
from regjax.progress import say
from regjax.studies import coordinator, plan, report, words


def show(study: StudyConfig, console: Console) -> None:
    """Prints arms, ranges, trials, programs, memory and time; trains nothing but two epochs.

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
    measured = _measure(study)
    programs = coordinator.programs(study)
    most = runs * study.epochs * measured["epoch"] + measured["compile"] * programs
    say(console, f"protocol {search.protocol}, sampler {search.sampler}")
    say(
        console,
        f"{plan.budget(study)} trials, {runs} runs in all with the confirmation, {lanes} at once",
    )
    say(console, f"{programs} programs to compile, {measured['compile']:.1f} s the first")
    say(console, f"{measured['bytes'] * lanes / 2**20:,.0f} MiB for data and networks")
    say(
        console,
        f"{measured['epoch']:.3f} s an epoch of the first arm: at most "
        f"{words.clock(most / lanes)}, less where runs stop early",
    )


def _measure(study: StudyConfig) -> dict[str, float]:
    parts = assembly.assemble(plan.ends(study, study.study.arms[0])[0])
    arrays: Any = (parts.arrays("train"), parts.arrays("valid"))
    started = time.perf_counter()
    functions = parts.program()
    run = functions.init(*parts.start())
    compiled = functions.compiled(parts.strengths, run, *arrays)
    compile_seconds = time.perf_counter() - started
    memory = compiled.train_steps.memory_analysis()
    run, _ = jax.block_until_ready(compiled.run_epoch(parts.strengths, run, *arrays))
    started = time.perf_counter()
    jax.block_until_ready(compiled.run_epoch(parts.strengths, run, *arrays))
    return {
        "compile": compile_seconds,
        "epoch": time.perf_counter() - started,
        "bytes": float(memory.argument_size_in_bytes + memory.temp_size_in_bytes if memory else 0),
    }
