"""The main job on real data: a pool of data-rich experts lifts few-shot targets."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from pitune.backbones import Backbone
from pitune.defaults import DEMO_TARGETS
from pitune.experts import ExpertPool
from pitune.interpolation import TuneResult
from pitune.prediction import build_graph, embedding, probe_fisher
from pitune.studies.baselines import BASELINES, PI
from pitune.studies.compare import keep_settings, measure_methods
from pitune.studies.plans import DEMO, ComparePlan
from pitune.studies.results import DemoResults, ExpertScore, Graph, TriedMix, TunedTarget
from pitune.studies.sources import train_pool
from pitune.studies.statistics import paired_gains
from pitune.studies.study import Study, open_backbone, open_task
from pitune.studies.trial import Trial
from pitune.studies.workers import Spread
from pitune.tasks import Task, expand, few_shot, short_name, spread

_MOST = 64  # examples that a task is embedded by


def run_demo(
    out: Path,
    *,
    plan: ComparePlan = DEMO,
    targets: Sequence[str] = (DEMO_TARGETS,),
    quick: bool = False,
    workers: int | Spread = 1,
    progress: bool = True,
) -> DemoResults:
    """Train the pool of all tasks but the targets, tune every target on every seed, leave `results.json` and `expert/`.

    What is there already is kept: experts in `pool/`, rows in `rows.jsonl`, checkpoints in `runs/`.
    """
    open_backbone(plan)  # a device that is not there is told before anything is fetched
    methods = tuple(one.name for one in BASELINES.all() if one.demo)
    plan, study = plan.but(methods=methods), Study(out, workers, progress)
    tasks, targets = expand(plan.tasks), expand(targets)
    keep_settings(plan, study, tasks)
    train_pool(study, plan, [name for name in tasks if name not in targets])
    measure_methods(plan, study, targets)
    tuned = {}
    for name in targets:
        result = Trial(plan, out, name, plan.shots[0], plan.first_seed).tuned
        tuned[name] = _tuned(result, plan)
        result.expert.save(out / "expert")
    backbone, rows = open_backbone(plan), list(study.rows())
    return study.write(
        DemoResults,
        plan,
        sorted(rows, key=lambda row: (row.task, methods.index(row.method), row.seed)),
        command=f"pitune demo{' --quick' if quick else ''} --out {shlex.quote(str(out))} --seeds {plan.seeds} "
        f"--seed {plan.first_seed}",
        graph=_graph(backbone, plan, tasks, ExpertPool(out / "pool")),
        targets=tuned,
        gains=tuple(gain for name in methods if name != PI for gain in paired_gains(rows, PI, name)),
    )


def _tuned(result: TuneResult, plan: ComparePlan) -> TunedTarget:
    return TunedTarget(
        shots=plan.shots[0],
        neighbours=result.neighbours,
        weights={group: dict(weights) for group, weights in result.weights.items()},
        choice=result.choice,
        candidates=tuple(TriedMix(**candidate.described()) for candidate in result.candidates),
    )


def _graph(backbone: Backbone, plan: ComparePlan, names: Sequence[str], pool: ExpertPool) -> Graph:
    """Compare all tasks by the probe: sources by what their experts carry, targets by their few labels."""
    tasks = {task.name: task for task in map(open_task, names)}
    experts = {expert.card.task: expert for expert in pool}
    embeddings, scores = {}, list[ExpertScore | None]()
    for name, task in tasks.items():
        expert = experts.get(name)
        if expert is not None:
            embeddings[name] = embedding(expert)
            value = expert.card.validation
            scores.append(None if value is None else ExpertScore(metric=expert.card.metric, value=value))
        else:
            labels = few_shot(task, plan.shots[0], plan.first_seed).labels
            embeddings[name] = probe_fisher(backbone, task, spread(labels, _MOST))
            scores.append(None)
    graph = build_graph(embeddings)
    return Graph(
        names=tuple(experts[name].name if name in experts else f"{short_name(name)} (target)" for name in graph.names),
        tasks=graph.names,
        similarity=graph.similarity.tolist(),
        kinds=tuple(kind_of(task) for task in tasks.values()),
        scores=tuple(scores),
    )


def kind_of(task: Task) -> str:
    """Return what a task's inputs are: image, text, or both."""
    example = task.examples("train")[0]
    parts = [kind for kind, there in (("image", example.image), ("text", example.text)) if there is not None]
    return " + ".join(parts)
