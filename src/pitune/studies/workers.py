"""Run the parts of a study side by side, each in a process of its own that keeps what it has loaded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, TypeVar

from tqdm import tqdm

from pitune.errors import InputError
from pitune.processes import team
from pitune.registry import given_everywhere, register_again
from pitune.studies.cluster import on_ray

Job = TypeVar("Job")


@dataclass(frozen=True)
class Spread:
    """Over how many workers jobs are spread: processes of this machine, or Ray's at an address (`on_ray`)."""

    workers: int = 1
    ray: str | None = None


def run_jobs(work: Callable[[Job], object], jobs: Sequence[Job], over: int | Spread = 1, title: str = "") -> None:
    """Do every job, some side by side; `work` and the jobs must be picklable where there are several workers.

    Each worker gets its share of the cores, and knows what this program has registered. A bar on stderr shows how far
    it is, if there is a `title`. The first error stops what has not begun and is raised; rows that are on disk by then
    stay there.
    """
    over = over if isinstance(over, Spread) else Spread(over)
    if over.workers < 1:
        raise InputError(f"workers is {over.workers}; expected 1 or more")
    if over.workers > 1 and team().size > 1:
        raise InputError("--workers and torchrun both begin processes; leave one out")
    if over.ray is not None:
        ended = on_ray(over.ray, work, jobs, over.workers)
    elif over.workers == 1 or len(jobs) < 2:
        ended = in_turn(work, jobs)
    else:
        ended = in_processes(work, jobs, over.workers)
    with tqdm(total=len(jobs), desc=title, disable=None if title else True) as bar:
        for _ in ended:
            bar.update()


def in_turn(work: Callable[[Job], object], jobs: Sequence[Job]) -> Iterator[None]:
    """Do one job after the other, here, and yield as each has ended."""
    for job in jobs:
        work(job)
        yield


def in_processes(work: Callable[[Job], object], jobs: Sequence[Job], workers: int) -> Iterator[None]:
    """Do every job, so many at a time, each in a process of its own, and yield as each has ended."""
    context = multiprocessing.get_context("spawn")
    cores = max(1, len(os.sched_getaffinity(0)) // workers) if hasattr(os, "sched_getaffinity") else 1
    with ProcessPoolExecutor(workers, context, _begin, (cores, given_everywhere())) as pool:
        futures = [pool.submit(_do, work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, Exception):  # nobody waits for what is half done
                for worker in multiprocessing.active_children():
                    worker.terminate()
            raise


def _do(work: Callable[[Job], object], job: Job) -> None:
    """Do a job, and send nothing back."""
    work(job)


def _begin(cores: int, given: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep one process from using the cores of another, and from outliving the study."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that waits for this process
    register_again(given)
    torch.set_num_threads(cores)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    """End this process when its parent has ended, however that was; rows on disk are whole at any moment."""
    wait([sentinel])
    os._exit(1)
