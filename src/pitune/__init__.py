"""The best small expert for a new task, out of a frozen foundation model, a few labels and the experts of other tasks.

The public names load on first use: `import pitune` alone imports neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pitune.api import evaluate as evaluate
    from pitune.api import fit as fit
    from pitune.api import fit_multitask as fit_multitask
    from pitune.api import neighbours as neighbours
    from pitune.api import predict as predict
    from pitune.api import task_graph as task_graph
    from pitune.api import tune as tune
    from pitune.backbones import load_backbone as load_backbone
    from pitune.errors import InputError as InputError
    from pitune.experts import Expert as Expert
    from pitune.experts import ExpertPool as ExpertPool
    from pitune.experts import export_for as export_for
    from pitune.experts import export_peft as export_peft
    from pitune.experts import import_peft as import_peft
    from pitune.experts import load_expert as load_expert
    from pitune.experts import merge_into as merge_into
    from pitune.experts import register_method as register_method
    from pitune.interpolation import TuneSettings as TuneSettings
    from pitune.interpolation import mix as mix
    from pitune.tasks import Example as Example
    from pitune.tasks import Task as Task
    from pitune.tasks import few_shot as few_shot
    from pitune.tasks import load_task as load_task
    from pitune.training import TrainingSettings as TrainingSettings

__version__ = "0.1.0"

_HOMES = {
    "Example": "pitune.tasks",
    "Expert": "pitune.experts",
    "ExpertPool": "pitune.experts",
    "InputError": "pitune.errors",
    "Task": "pitune.tasks",
    "TrainingSettings": "pitune.training",
    "TuneSettings": "pitune.interpolation",
    "evaluate": "pitune.api",
    "export_for": "pitune.experts",
    "export_peft": "pitune.experts",
    "few_shot": "pitune.tasks",
    "fit": "pitune.api",
    "fit_multitask": "pitune.api",
    "import_peft": "pitune.experts",
    "load_backbone": "pitune.backbones",
    "load_expert": "pitune.experts",
    "load_task": "pitune.tasks",
    "merge_into": "pitune.experts",
    "mix": "pitune.interpolation",
    "neighbours": "pitune.api",
    "predict": "pitune.api",
    "register_method": "pitune.experts",
    "task_graph": "pitune.api",
    "tune": "pitune.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that holds it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pitune' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
