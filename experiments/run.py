"""Runs the scripts of `experiments.claims` and writes a ledger of what they found.

python -m experiments.run --all [--scale=small] [--workdir=runs/evidence] [--jobs=2]
python -m experiments.run --only=P1,P3

Each script is a process of its own, `--jobs` of them at a time. What has been decided with the same
settings by the same script is not measured again, so a run that was ended goes on where it was.
`--all --scale=small` takes under an hour on 2 CPU cores. The ledger is `LEDGER.md` of the workdir.
"""

import contextlib
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from absl import flags

from experiments import claims, evidence, ledger
from experiments.evidence import Setting
from regjax.errors import InputError, did_you_mean

_ALL = flags.DEFINE_boolean("all", False, "every claim")
_ONLY = flags.DEFINE_list("only", [], "claims by their ids")
_JOBS = flags.DEFINE_integer("jobs", os.cpu_count() or 1, "scripts at a time", lower_bound=1)


def scripts() -> dict[str, Any]:
    """Every script of `experiments.claims` as a module, by its name."""
    names = [module.name for module in pkgutil.iter_modules(claims.__path__)]
    return {name: importlib.import_module(f"experiments.claims.{name}") for name in names}


def chosen(found: dict[str, Any], every: bool, only: list[str]) -> dict[str, Any]:
    """The scripts that decide the claims that are asked for.

    Raises:
      InputError: nothing is asked for, or a claim that there is no script for.
    """
    known = {claim: name for name, module in found.items() for claim in module.CLAIMS}
    if every == bool(only):
        raise InputError(f"give --all, or --only with some of {', '.join(sorted(known))}")
    for claim in only:
        if claim not in known:
            hint = did_you_mean(claim, list(known)) or f"; there are {', '.join(sorted(known))}"
            raise InputError(f"no script decides the claim '{claim}'{hint}")
    names = {known[claim] for claim in only} if only else set(found)
    return {name: found[name] for name in sorted(names)}


def decided(module: Any, setting: Setting) -> bool:
    """Whether all claims of a script have been decided, by this script with these settings."""
    wanted = {**setting.identity, "source": evidence.source(module)}
    for claim in module.CLAIMS:
        made = ledger.read(setting.workdir / claim / "claim.json")
        if made is None or any(made[name] != value for name, value in wanted.items()):
            return False
    return True


def claim_workdir(setting: Setting) -> None:
    """Makes the workdir one of these settings.

    Raises:
      InputError: it is of others, whose results would be lost.
    """
    file = setting.workdir / "setting.json"
    with contextlib.suppress(OSError, ValueError):
        there = json.loads(file.read_text())
        if there != setting.identity:
            raise InputError(
                f"'{setting.workdir}' holds results of {there}, not of {setting.identity}; "
                "give another --workdir"
            )
    try:
        setting.workdir.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(setting.identity) + "\n")
    except OSError as error:
        raise InputError(f"cannot write to '{setting.workdir}': {error.strerror}") from error


def command(name: str, setting: Setting) -> list[str]:
    """How a script is started."""
    return [
        sys.executable,
        "-m",
        f"experiments.claims.{name}",
        f"--scale={setting.scale}",
        f"--workdir={setting.workdir}",
        f"--first_seed={setting.seeds[0]}",
        f"--seeds={len(setting.seeds)}",
    ]


def measure(names: list[str], setting: Setting, jobs: int) -> Iterator[tuple[str, int, str, float]]:
    """Runs scripts; yields each as it ends: its name, exit code, output and seconds."""
    running: list[subprocess.Popen[str]] = []

    def one(name: str) -> tuple[str, int, str, float]:
        started = time.perf_counter()
        process = subprocess.Popen(
            command(name, setting), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        output, errors = process.communicate()
        output += errors if process.returncode else ""
        return name, process.returncode, output, time.perf_counter() - started

    with ThreadPoolExecutor(jobs) as threads:
        try:
            ended = as_completed([threads.submit(one, name) for name in names])
            yield from (future.result() for future in ended)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            raise


def main(values: flags.FlagValues) -> int:
    """Runs what is missing and writes the ledger; 1 if a script has failed."""
    setting = evidence.setting_of(values)
    wanted = chosen(scripts(), _ALL.value, _ONLY.value)
    claim_workdir(setting)
    missing = [name for name, module in wanted.items() if not decided(module, setting)]
    if done := len(wanted) - len(missing):
        print(f"{done} of {len(wanted)} scripts have been run", flush=True)
    failed = False
    for name, code, output, seconds in measure(missing, setting, _JOBS.value):
        failed |= code != 0
        verdicts = output.splitlines()[-len(wanted[name].CLAIMS) :]  # after what a study may say
        told = "\n".join(verdicts) if code == 0 else f"failed with exit code {code}:\n{output}"
        print(f"{name}, {seconds:.0f} s\n{told}", flush=True)
    path = ledger.write(setting.workdir, setting.workdir)
    print(f"ledger: {path}")
    return int(failed)


if __name__ == "__main__":
    evidence.define_flags()
    evidence.run(main)
