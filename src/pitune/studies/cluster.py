"""Jobs on Ray: its own machine's workers, or a cluster's."""

from __future__ import annotations

import errno
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

from pitune.errors import InputError
from pitune.extras import need
from pitune.registry import given_everywhere, register_again

Job = TypeVar("Job")
LOCAL = "local"
_RETRIES = 3  # of a job whose worker was lost


def on_ray(address: str, work: Callable[[Job], object], jobs: Sequence[Job], workers: int) -> Iterator[None]:
    """Do every job on Ray, `workers` at a time, and yield as each has ended.

    `address` is `local` for this machine alone, `auto` for the cluster that it belongs to, or a cluster's own; its
    machines need pitune and see the same folders under the same names. Each job has a worker's share of the CPUs and
    GPUs there are. A job whose worker is lost is begun again on another, and does not repeat what it has written.
    Raise what a job raises, and `ConnectionAbortedError` where its workers are lost again and again.
    """
    ray = need("ray", "ray")
    _connect(ray, address)
    share = shares(ray.cluster_resources(), workers)
    do = ray.remote(max_retries=_RETRIES, **share)(_do)
    first = (given_everywhere(), Path.cwd(), max(1, int(share["num_cpus"])))
    waiting = [do.remote(work, job, *first) for job in jobs]
    try:
        with redirect_stdout(sys.stderr):  # where Ray says that a worker was lost
            while waiting:
                ended, waiting = ray.wait(waiting)
                ray.get(ended)
                yield
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.WorkerCrashedError as error:
        problem = f"a job on Ray was given up: its workers were lost {_RETRIES + 1} times"
        raise ConnectionAbortedError(errno.ECONNABORTED, problem) from error
    finally:
        for job in waiting:
            ray.cancel(job, force=True)


def shares(there: Mapping[str, float], workers: int) -> dict[str, float]:
    """Return the CPUs and GPUs of each of so many workers; fractions, where they are more than there are of these."""
    cpus, gpus = there.get("CPU", 1.0), there.get("GPU", 0.0)
    return {
        "num_cpus": float(cpus // workers) or 1 / math.ceil(workers / cpus),
        **({"num_gpus": float(gpus // workers) or 1 / math.ceil(workers / gpus)} if gpus else {}),
    }


def _connect(ray: Any, address: str) -> None:
    """Begin Ray or join its cluster, once for all studies of this program."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        try:
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # which is what Ray raises
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"--ray {address}: no cluster of Ray answers there ({reason}); expected local, auto or an "
                "address such as HOST:6379"
            ) from error


def _do(
    work: Callable[[Job], object], job: Job, given: Mapping[str, Mapping[str, Any]], folder: Path, cores: int
) -> None:
    """Do a job where the program that sent it was started, and send nothing back."""
    import torch

    os.chdir(folder)
    register_again(given)
    torch.set_num_threads(cores)
    work(job)
