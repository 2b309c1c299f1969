"""How much faster two workers of Ray end sixteen equal fits than one: `python benchmarks/ray_workers.py [STEPS]`.

Each worker has a core and has loaded its backbone before the clock runs; what is measured is the jobs. Prints one
JSON object, with the load of the machine before and after.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pitune.studies import Spread, run_jobs
from pitune.tasks import few_shot, load_task
from pitune.training import TrainingSettings, fit_expert

TASK, FITS = "pocket/mnist", 16


def fit(folder: Path, steps: int, name: str) -> None:
    """Fit an expert, and write its loss as a row of its own."""
    import torch

    from pitune.studies import load_once  # here, since Ray sends what stands in a script by value

    torch.set_num_threads(1)  # two workers share two cores; one alone is to have no more than each of them
    backbone, draw = load_once("pocket", "cpu"), few_shot(load_task(TASK), 4, 0)
    _, trained = fit_expert(backbone, draw, settings=TrainingSettings(steps=steps, batch_size=16))
    (folder / name).write_text(f"{trained.validation_loss}")


def main() -> None:
    """Time one worker and two, after a job on each that loads what it needs."""
    load, seconds, steps = [os.getloadavg()], {}, int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with TemporaryDirectory() as name:
        for workers in (2, 1):  # so that both are warm
            over = Spread(workers, "local")
            run_jobs(partial(fit, Path(name), steps), [f"warm-{i}" for i in range(2 * workers)], over)
            start = time.perf_counter()
            run_jobs(partial(fit, Path(name), steps), [f"{workers}-{i}" for i in range(FITS)], over)
            seconds[workers] = round(time.perf_counter() - start, 1)
        rows = {path.read_text() for path in Path(name).iterdir()}
    load.append(os.getloadavg())
    told = {
        "steps": steps,
        "seconds": seconds,
        "ratio": round(seconds[1] / seconds[2], 2),
        "different rows": len(rows),
        "load": load,
    }
    print(json.dumps({**told, "cores": os.cpu_count()}))


if __name__ == "__main__":
    sys.exit(main())
