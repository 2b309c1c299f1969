"""Run the parts of a study side by side, each in a process of its own that keeps what it has loaded."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from typing import Any, TypeVar

from tqdm import tqdm

from pitune.errors import InputError
from pitune.registry import given_everywhere, register_again

Job = TypeVar("Job")


def run_jobs(work: Callable[[Job], object], jobs: Sequence[Job], workers: int = 1, title: str = "") -> None:
    """Do every job, `workers` at a time; `work` and the jobs must be picklable where there are several workers.

    Each process gets its share of the cores, and knows what this program has registered. A bar on stderr shows how
    far it is, if there is a `title`. The first error stops what has not begun and is raised; rows that are on disk by
    then stay there.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}; expected 1 or more")
    bar = tqdm(total=len(jobs), desc=title, disable=None if title else True)
    with bar:
        if workers == 1 or len(jobs) < 2:
            for job in jobs:
                work(job)
                bar.update()
            return
        context = multiprocessing.get_context("spawn")
        cores = max(1, len(os.sched_getaffinity(0)) // workers) if hasattr(os, "sched_getaffinity") else 1
        with ProcessPoolExecutor(workers, context, _begin, (cores, given_everywhere())) as pool:
            futures = [pool.submit(_do, work, job) for job in jobs]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _do(work: Callable[[Job], object], job: Job) -> None:
    """Do a job, and send nothing back."""
    work(job)


def _begin(cores: int, given: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep one process from using the cores of another, and from outliving the study."""
    import torch

    register_again(given)
    torch.set_num_threads(cores)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    """End this process when its parent has ended, however that was; rows on disk are whole at any moment."""
    wait([sentinel])
    os._exit(1)
