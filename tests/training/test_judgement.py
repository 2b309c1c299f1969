"""What `eval` says beyond one number, against closed forms and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_fscore_support
from torch.nn import functional as F

from pitune.tasks import Example, Task
from pitune.tasks.metrics import METRICS, compute_metric, compute_text_metric
from pitune.training import Evaluation, differences, judge, wilson
from pitune.training.judgement import calibration, interval, resampled

NAMES = ("red", "green", "blue")


def task_of(metric: str, targets: list[int], references: list[tuple[str, ...]] | None = None) -> Task:
    examples = [
        Example(f"e{i}", NAMES[label], f"text {i}", references=() if references is None else references[i])
        for i, label in enumerate(targets)
    ]
    return Task("colours", {"test": examples}, answers=NAMES, metric=metric)


def seen_of(metric: str, seed: int, number: int = 60, sure: float = 1.5) -> tuple[Task, Evaluation]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(number) % 3
    scores = (torch.randn(number, 3, generator=generator) + sure * F.one_hot(target, 3)).log_softmax(-1)
    task = task_of(metric, target.tolist())
    ids = tuple(one.id for one in task.examples("test"))
    value = compute_metric(metric, scores, target, None, NAMES)
    losses = -scores.gather(1, target[:, None])[:, 0]
    return task, Evaluation(metric, value, ids, scores, target, losses)


def test_classes_and_confusions_are_scikit_learns() -> None:
    task, seen = seen_of("accuracy", 0)
    found = judge(task, task.examples("test"), seen)
    answered = seen.scores.argmax(-1)
    precision, recall, _, number = precision_recall_fscore_support(seen.target, answered)
    assert [one.name for one in found.classes] == [*NAMES]
    assert [one.n for one in found.classes] == number.tolist()
    assert [one.precision for one in found.classes] == pytest.approx(precision.tolist())
    assert [one.recall for one in found.classes] == pytest.approx(recall.tolist())
    matrix = [[(found.confusion or {}).get(right, {}).get(said, 0) for said in NAMES] for right in NAMES]
    assert matrix == confusion_matrix(seen.target, answered).tolist()
    assert sum(one.n * (one.recall or 0) for one in found.classes) / found.n == pytest.approx(found.value)
    assert found.loss == pytest.approx(float(seen.losses.mean()))


def test_a_class_that_nobody_has_or_answers_has_no_share() -> None:
    scores = torch.tensor([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1]]).log()
    target = torch.tensor([0, 1])
    task = task_of("accuracy", [0, 1])
    found = judge(task, task.examples("test"), Evaluation("accuracy", 0.5, ("e0", "e1"), scores, target, -scores[:, 0]))
    assert [(one.n, one.answered, one.recall, one.precision) for one in found.classes] == [
        (1, 2, 1.0, 0.5),
        (1, 0, 0.0, None),
        (0, 0, None, None),
    ]


def test_calibration_error_is_the_closed_form() -> None:
    sure = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    scores = torch.stack([sure, 1 - sure], 1).log()
    target = torch.tensor([0, 0, 0, 1, 1, 1])
    found = calibration(scores, target)
    assert found.ece == pytest.approx((4 * abs(0.75 - 0.9) + 2 * abs(0.0 - 0.6)) / 6)
    assert found.probability == pytest.approx(0.8)
    assert found.right == 0.5
    assert [(one.n, one.right) for one in found.bins] == [(2, 0.0), (4, 0.75)]
    assert calibration(torch.tensor([[0.0, -torch.inf]]), torch.tensor([0])).ece == 0.0


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    task, seen = seen_of("accuracy", 1, number=600)
    low, high = interval(resampled(task, task.examples("test"), seen))
    assert low is not None
    assert high is not None
    error = (seen.value * (1 - seen.value) / 600) ** 0.5
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.12)
    assert (high + low) / 2 == pytest.approx(seen.value, abs=0.2 * error)


@pytest.mark.parametrize("metric", ["mean-per-class", "f1", "matthews", "roc-auc"])
def test_a_metric_that_is_no_mean_is_computed_anew(metric: str) -> None:
    task, seen = seen_of(metric, 2)
    drawn = resampled(task, task.examples("test"), seen)
    assert drawn is not None
    rows = np.random.default_rng(60).integers(0, 60, 60)
    assert drawn[0] == pytest.approx(compute_metric(metric, seen.scores[rows], seen.target[rows], None, NAMES))
    low, high = interval(drawn)
    assert low is not None
    assert high is not None
    assert low < seen.value < high


def test_no_interval_where_a_draw_has_no_value_or_there_is_one_example() -> None:
    scores = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]]).log()
    task = task_of("roc-auc", [0, 1, 2])
    seen = Evaluation("roc-auc", 1.0, ("e0", "e1", "e2"), scores, torch.arange(3), -scores.diagonal())
    found = judge(task, task.examples("test"), seen)
    assert (found.low, found.high) == (None, None)
    one = Evaluation("accuracy", 1.0, ("e0",), scores[:1], torch.arange(1), -scores.diagonal()[:1])
    assert judge(task_of("accuracy", [0]), task.examples("test"), one).low == wilson(one.value, 1)[0]


@pytest.mark.parametrize("name", [name for name in METRICS.names() if METRICS.get(name).mean])
def test_what_is_called_a_mean_is_one(name: str) -> None:
    metric = METRICS.get(name)
    if metric.reads == "scores":
        generator = torch.Generator().manual_seed(0)
        scores, target = torch.randn(40, 12, generator=generator), torch.arange(40) % 12
        relevant = F.one_hot(target, 12).bool() if metric.several else None
        whole = compute_metric(name, scores, target, relevant)
        each = [
            compute_metric(
                name, scores[i : i + 1], target[i : i + 1], None if relevant is None else relevant[i : i + 1]
            )
            for i in range(40)
        ]
    else:
        boxes = ["<loc_0><loc_0><loc_10><loc_10>", "<loc_0><loc_0><loc_9><loc_9>", "<loc_50><loc_50><loc_90><loc_90>"]
        said = boxes if name.startswith("iou") else ["yes", "a red cat", "no"]
        written = [said[i % 3] for i in range(40)]
        references = [[said[i % 2]] * 10 for i in range(40)]
        whole = compute_text_metric(name, written, references)
        each = [compute_text_metric(name, [one], [some]) for one, some in zip(written, references, strict=True)]
    assert 0 < whole < 1
    assert sum(each) / 40 == pytest.approx(whole)


def test_several_right_answers_have_an_average_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(50, 3, generator=generator)
    relevant = torch.rand(50, 3, generator=generator) > 0.6
    relevant[:, 0] |= ~relevant.any(1)
    target = relevant.int().argmax(1)
    task = task_of("11-point-map", target.tolist())
    ids = tuple(one.id for one in task.examples("test"))
    value = compute_metric("11-point-map", scores, target, relevant, NAMES)
    found = judge(
        task, task.examples("test"), Evaluation("11-point-map", value, ids, scores, target, target * 0.0, relevant)
    )
    expected = [average_precision_score(relevant[:, i], scores[:, i]) for i in range(3)]
    assert [one.average_precision for one in found.classes] == pytest.approx(expected)
    assert (found.confusion, found.calibration) == (None, None)
    assert found.low is not None


def test_differences_are_of_the_same_examples() -> None:
    task, first = seen_of("accuracy", 0, 300)
    _, same = seen_of("accuracy", 0, 300)
    _, better = seen_of("accuracy", 0, 300, sure=2.5)
    found = differences(task, task.examples("test"), {"a": first, "b": same, "c": better})
    assert found["b"].model_dump() == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["c"].value == pytest.approx(better.value - first.value)
    assert (found["c"].low or 0) > 0
    alone = interval(resampled(task, task.examples("test"), better))
    assert (found["c"].high or 0) - (found["c"].low or 0) < (alone[1] or 0) - (alone[0] or 0) + 0.05
