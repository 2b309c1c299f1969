"""Which score tells best which source helps: each source's expert measured on each target, and what was predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool
from pitune.prediction import SCORES, Score, Target, whole
from pitune.studies.compare import prepare_pool, trials_of
from pitune.studies.plans import PREDICTORS, ComparePlan
from pitune.studies.ranking import FEWEST, ByTarget, mean_rank, reliability, summary
from pitune.studies.results import PredictorsResults, Row, Summary
from pitune.studies.rows import Measured, Measures
from pitune.studies.study import Study, open_backbone, open_task
from pitune.studies.trial import Trial
from pitune.studies.workers import Spread
from pitune.tasks import Draw, Example, expand
from pitune.training import Evaluation, evaluate_expert

ROWS, RESULTS = "predictors.jsonl", "predictors.json"
ZERO_SHOT, ZERO_SHOT_LOSS = "zero-shot", "zero-shot-loss"
HALVES = ("-1", "-2")
# what is measured of a source's expert on a target: as it is, by metric and by −loss; or trained on for a few steps
UNCHANGED, UNCHANGED_LOSS, ADAPTED = "unchanged", "unchanged-loss", "adapted"
ROW_NAMES = {"probe": "probe-fisher"}  # what kept rows call a score, where that is not its name
# predictors that are the mean rank of several scores
COMBINED: Mapping[str, tuple[str, ...]] = {
    "probe-fisher + label-similarity": ("probe-fisher", "label-similarity"),
    "probe-fisher + trial": ("probe-fisher", "trial"),
    "label-similarity + trial": ("label-similarity", "trial"),
    "probe-fisher + calibrated-trial": ("probe-fisher", "calibrated-trial"),
}


@dataclass(frozen=True)
class Cell:
    """One target with some labels, against every source."""

    trial: Trial
    sources: tuple[str, ...]
    adapted: bool

    def measures(self) -> Measures:
        """Return what is measured of the target, and of each source's expert on it, and every score that applies."""
        trial = self.trial
        experts = {name: expert_of(trial.plan, trial.out, name) for name in self.sources if name != trial.name}
        find = {open_task(name).name: partial(source_of, trial.plan, name) for name in experts}
        target = Target(
            trial.backbone, trial.draw, trial.plan.training(trial.draw), trial.folder / "own", lambda name: find[name]()
        )
        measures = _looks(trial, None)
        for expert in experts.values():
            source = expert.card.task
            measures |= _looks(trial, expert)
            for score in SCORES.all():
                if score.applies(target, expert):
                    run = partial(_scored, score, target, expert)
                    measures[trial.key(f"{ROW_NAMES.get(score.name, score.name)} {source}")] = run
            if self.adapted:
                measures[trial.key(f"{ADAPTED} {source}")] = partial(_adapted, trial, expert)
        return measures


def run_predictors(
    plan: ComparePlan = PREDICTORS,
    out: Path = Path("predictors"),
    *,
    adapted: bool = False,
    workers: int | Spread = 1,
    progress: bool = True,
) -> PredictorsResults:
    """Measure every source's expert on every target's test part, score every source, and compare the two.

    Scores read few labels of the target's train and validation parts, never its test part. `adapted` measures, too,
    what a source's expert is worth after `plan.tuning.training` on the few labels; a target's own expert, for the
    Fisher information at it, is trained as long. Sources are the experts of the pool of `pitune study compare`,
    trained if need be. Rows are kept in `predictors.jsonl` beside it.
    """
    if len(plan.shots) != 1 or plan.shots[0] is None:
        raise InputError("predictors are compared at one number of shots; give --shots a single number")
    count = len(expand(plan.tasks))
    if count < FEWEST + 1:
        raise InputError(f"{count} task(s); expected {FEWEST + 1} or more, so that each has {FEWEST} sources to rank")
    study = Study(out, workers, progress, ROWS)
    tasks = prepare_pool(plan, study)
    rows = study.measure([Cell(trial, tuple(tasks), adapted) for trial in trials_of(plan, tasks, out)])
    kinds = (UNCHANGED, UNCHANGED_LOSS, *([ADAPTED] if adapted else []))
    return study.write(
        PredictorsResults,
        plan,
        rows,
        RESULTS,
        predictors={kind: rank_predictors(rows, kind, plan) for kind in kinds},
        reliability={kind: reliability(*(_table(rows, kind + half, None, 0) for half in HALVES)) for kind in kinds[:2]},
    )


def rank_predictors(rows: Sequence[Row], kind: str, plan: ComparePlan) -> list[Summary]:
    """Return how well each predictor ranks what was measured, best rank correlation first."""
    shots = plan.shots[0]
    truth = [gains(rows, kind, shots, seed) for seed in plan.all_seeds]
    names = [ROW_NAMES.get(score, score) for score in SCORES.names()]
    scores: dict[str, list[ByTarget]] = {
        name: [_table(rows, name, shots, seed) for seed in plan.all_seeds] for name in names
    }
    for name, parts in COMBINED.items():
        scores[name] = [_combined([scores[part][i] for part in parts]) for i in range(plan.seeds)]
    scores["random"] = [{} for _ in plan.all_seeds]
    summaries = [summary(name, list(zip(truth, tables, strict=True))) for name, tables in scores.items()]
    there = [one for one in summaries if one is not None]
    return sorted(there, key=lambda one: (one.predictor == "random", -one.spearman.mean))


def gains(rows: Sequence[Row], kind: str, shots: int | None, seed: int) -> ByTarget:
    """Return what each source's expert gains on each target over none at all, in shares of the metric, or in nats."""
    values = _table(rows, kind, *((shots, seed) if kind == ADAPTED else (None, 0)))
    zero_shot = ZERO_SHOT_LOSS if kind == UNCHANGED_LOSS else ZERO_SHOT
    base = {row.task: row.worth for row in rows if row.method == zero_shot}
    return {target: {source: value - base[target] for source, value in each.items()} for target, each in values.items()}


def _table(rows: Sequence[Row], name: str, shots: int | None, seed: int) -> dict[str, dict[str, float]]:
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        what, _, source = row.method.partition(" ")
        if what == name and source and (row.shots, row.seed) == (shots, seed):
            values.setdefault(row.task, {})[source] = row.worth
    return values


def _combined(tables: Sequence[ByTarget]) -> ByTarget:
    shared = set.intersection(*(set(one) for one in tables))
    return {target: mean_rank([one[target] for one in tables]) for target in sorted(shared)}


@cache
def expert_of(plan: ComparePlan, out: Path, name: str) -> Expert:
    """Return a task's expert of the pool, read once a process."""
    return ExpertPool(out / "pool").get(Draw(open_task(name), ()).expert_name("lora"))


@cache
def source_of(plan: ComparePlan, name: str) -> Target:
    """Return what scores read of a task, read once a process."""
    return whole(open_backbone(plan), open_task(name))


def _looks(trial: Trial, expert: Expert | None) -> Measures:
    """Return how an expert, or none, is measured by metric and by −loss, whole and by halves, in one evaluation."""
    task, test = trial.task, trial.test
    kind, name = (UNCHANGED, f" {expert.card.task}") if expert else (ZERO_SHOT, "")
    evaluated = cache(partial(evaluate_expert, trial.backbone, task, expert, test))
    looks: dict[str, Callable[[], Measured]] = {
        kind: lambda: Measured(task.metric, evaluated().value, len(test)),
        f"{kind}-loss": lambda: Measured("loss", -evaluated().loss, len(test)),
    }
    for half in HALVES if expert else ():
        looks[f"{kind}-loss{half}"] = partial(_half, evaluated, test, half, "loss")
        if task.metric == "accuracy":
            looks[f"{kind}{half}"] = partial(_half, evaluated, test, half, "accuracy")
    return {(task.name, f"{look}{name}", None, 0): run for look, run in looks.items()}


def _half(evaluated: Callable[[], Evaluation], test: Sequence[Example], half: str, metric: str) -> Measured:
    """Return the mean over every other test example, in order of their ids."""
    evaluation = evaluated()
    kept = {example.id for example in test[HALVES.index(half) :: 2]}
    at = [i for i, one in enumerate(evaluation.ids) if one in kept]
    right = (evaluation.scores.argmax(1) == evaluation.target).float()
    value = float((right if metric == "accuracy" else -evaluation.losses)[at].mean())
    return Measured(metric, value, len(at))


def _scored(score: Score, target: Target, expert: Expert) -> Measured:
    return Measured(ROW_NAMES.get(score.name, score.name), score.rate(target, expert), len(target.support))


def _adapted(trial: Trial, expert: Expert) -> Measured:
    """Train a source's expert on the target's few labels, and measure what comes of it."""
    return trial.score(trial.fitted(f"from-{expert.name}", start=expert))
