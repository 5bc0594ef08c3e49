"""How a process becomes one of many, over `jax.distributed`, and how it ends when one is lost.

JAX is imported once it is needed: before that this process may fork.
"""

import contextlib
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

from regjax.errors import InputError, Interrupted, one_line

AUTO = "auto"
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # of the coordination service, which tells each step of an end
CONNECT_SECONDS = 40  # to find each other; the processes of a job start together
HEARTBEAT_SECONDS = 20  # silent for longer, a process is dead
# What libraries say in the moments before the coordination service notices.
CUT_OFF = (
    r"(?i)gloo|nccl|connection (reset|closed|refused)|socket closed|barrier|coordination.?service"
)
# How C++ begins what it says when it aborts: a failed check, and an exception that nobody took.
FATAL = r"F\d{4} \d\d:|terminate called"
LOST = (
    "another process of this run has ended or cannot be reached; see what it said, then start all "
    "of them again: they go on from the last checkpoint"
)


class Hosts(NamedTuple):
    """How this process finds the others.

    Attributes:
      coordinator: `HOST:PORT` of process 0, or `auto`: found by JAX from its surroundings.
      processes: how many; None with `auto`.
      process: which of them this is; None with `auto`.
      connect_seconds: how long to wait for the others at the start.
      heartbeat_seconds: silent for longer, a process is dead.
    """

    coordinator: str
    processes: int | None = None
    process: int | None = None
    connect_seconds: int = CONNECT_SECONDS
    heartbeat_seconds: int = HEARTBEAT_SECONDS


def from_flags(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    connect_seconds: int = CONNECT_SECONDS,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
) -> Hosts | None:
    """Returns what the flags say, or None where they are not given.

    Raises:
      InputError: flags that lack each other, or numbers out of range.

    >>> from_flags("10.0.0.1:8476", 2, 0)[:3]
    ('10.0.0.1:8476', 2, 0)
    """
    flags = {"coordinator": coordinator, "num_processes": processes, "process_id": process}
    given = [f"--{name}" for name, value in flags.items() if value is not None]
    lacking = [f"--{name}" for name, value in flags.items() if value is None]
    if not given:
        return None
    timeouts = {"connect_timeout": connect_seconds, "heartbeat_timeout": heartbeat_seconds}
    for name, seconds in timeouts.items():
        if seconds < 1:
            raise InputError(f"--{name} is {seconds}, expected seconds, 1 or more")
    if coordinator == AUTO:
        if len(given) > 1:
            raise InputError(f"--coordinator=auto finds the others by itself; drop {given[1]}")
        return Hosts(AUTO, None, None, connect_seconds, heartbeat_seconds)
    if lacking:
        raise InputError(
            f"{', '.join(lacking)} is missing beside {', '.join(given)}; give all three, or "
            "--coordinator=auto alone on SLURM, GKE or Cloud TPU"
        )
    assert coordinator is not None and processes is not None and process is not None
    port = re.fullmatch(r"(?:\[[0-9a-fA-F:.]+\]|[^:\s]+):(\d{1,5})", coordinator)
    if not port or not 0 < int(port[1]) < 65536:
        raise InputError(
            f"--coordinator is '{coordinator}', expected HOST:PORT of process 0, e.g. "
            "10.0.0.1:8476, or auto"
        )
    if processes < 1:
        raise InputError(f"--num_processes is {processes}, expected 1 or more")
    if not 0 <= process < processes:
        raise InputError(
            f"--process_id is {process}, expected 0 to {processes - 1} as --num_processes is "
            f"{processes}"
        )
    return Hosts(coordinator, processes, process, connect_seconds, heartbeat_seconds)


def supervise(hosts: Hosts) -> None:
    """Goes on in a child process, and ends this one as the child ends; call it before JAX.

    When a peer is lost, JAX's coordination client aborts the process from C++, with a stack trace
    and by a signal, and takes no callback in Python. So that this too is one line and exit code 2,
    a parent without JAX waits for the child and reads its stderr.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    (told, tell), (parent, alive) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        os.close(alive)
        os.dup2(tell, 2)
        # Gloo tells on C++'s stdout that all went well, in lines torn by its threads.
        sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="replace")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.close(tell)
        if os.environ.get(LOG_LEVEL, "1") == "1":  # JAX's default; now fatal errors alone
            os.environ[LOG_LEVEL] = "3"
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        return
    os.close(tell)
    os.close(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    error, fatal = _relay(told)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if error and code < 0:  # it came before, and is why C++ then aborted
        code = 2
    elif fatal and code and not error:
        error, code = f"regjax: error: {_why(hosts, fatal)}\n", 2
    elif -code in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT):
        error = f"regjax: error: the process crashed ({signal.Signals(-code).name})\n"
    print(error, end="", file=sys.stderr, flush=True)
    os._exit(128 - code if code < 0 else code)


def _end_with(parent: int) -> None:
    """Ends this process when the other end of a pipe does, however it was killed."""
    os.read(parent, 1)
    os._exit(130)


def _relay(told: int) -> tuple[str, str]:
    """Passes on a process's stderr until it ends, but for its error and what is fatal in C++."""
    error = fatal = ""
    with open(told, errors="replace") as lines:
        for line in lines:
            if fatal or re.match(FATAL, line):
                fatal += line
            elif line.startswith("regjax: error: "):
                error = line
            else:
                print(line, end="", file=sys.stderr, flush=True)
    return error, fatal


def _why(hosts: Hosts, fatal: str) -> str:
    """One line for what C++ says when it aborts."""
    if "gloo::" in fatal:  # after one exchange has failed, those still under way no longer match
        return LOST
    if "CoordinationService" not in fatal and "coordination service" not in fatal:
        return "the process was aborted: " + " ".join(fatal.split())[:300]
    if "RegisterTask" not in fatal:
        return LOST
    if "DEADLINE_EXCEEDED" not in fatal:
        reason = " ".join(fatal.split("absl::Status: ")[-1].split("RPC:")[0].split())
        return (
            f"--coordinator {hosts.coordinator} refused this process ({reason}); give each its own "
            "--process_id, and all the same --num_processes"
        )
    others = (
        f"all {hosts.processes} processes" if hosts.process == 0 else "process 0 and all others"
    )
    return (
        f"--coordinator {hosts.coordinator}: {others} were not there within "
        f"{hosts.connect_seconds} s; start every --process_id with the same --num_processes, and "
        "let that port through"
    )


def connect(hosts: Hosts) -> None:
    """Makes this process one of many; call it before any use of JAX's devices.

    Raises:
      InputError: the others cannot be found.
    """
    import jax

    if hosts.process == 0:
        _check_port(hosts.coordinator)
    # Its handler in C++ would take SIGTERM from Python, and do no more than note it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            None if hosts.coordinator == AUTO else hosts.coordinator,
            hosts.processes,
            hosts.process,
            initialization_timeout=hosts.connect_seconds,
            heartbeat_timeout_seconds=hosts.heartbeat_seconds,
            shutdown_timeout_seconds=hosts.heartbeat_seconds,
        )
    except Exception as error:  # of JAX, gRPC, or the surroundings that it asks
        hint = "give --coordinator=HOST:PORT, --num_processes and --process_id"
        failed = f"--coordinator={hosts.coordinator} failed ({one_line(error)})"
        raise InputError(f"{failed}; {hint}") from error
    here, all_of = jax.local_device_count(), jax.device_count()
    if here * jax.process_count() != all_of:
        raise InputError(
            f"this process has {here} of {all_of} devices, but there are {jax.process_count()} "
            "processes; give each as many"
        )


def _check_port(coordinator: str) -> None:
    """Refuses a port that is taken: JAX's service would crash."""
    port, dual = int(coordinator.rsplit(":", 1)[1]), socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=dual).close()
    except OSError as error:
        raise InputError(
            f"--coordinator is {coordinator}, but process 0 cannot open port {port} "
            f"({error.strerror or error}); give all processes another"
        ) from error


@contextlib.contextmanager
def connected(hosts: Hosts | None) -> Iterator[None]:
    """Runs what is inside as one of many processes, or alone where there are no hosts.

    Raises:
      InputError: the others cannot be found, or one was lost on the way.
    """
    if hosts is None:
        yield
        return
    supervise(hosts)
    connect(hosts)
    import jax

    try:
        yield
    except Interrupted:
        jax.distributed.shutdown()
        raise
    except Exception as error:  # by JAX, or as why a checkpoint could not be written
        if re.search(CUT_OFF, " ".join(str(error).split())):
            raise InputError(LOST) from error
        raise
    jax.distributed.shutdown()  # waits for the others to come to their end too
