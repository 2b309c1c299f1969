"""Metrics agree with reference implementations, and with numbers that those gave for a fixture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sacrebleu import corpus_bleu
from scipy.stats import spearmanr
from sklearn import metrics as reference
from torch import Tensor

from pitune.errors import InputError
from pitune.tasks.metrics import compute_metric, compute_text_metric, metric_names, reads_text
from pitune.tasks.metrics.boxes import overlap, parse_box
from pitune.tasks.metrics.questions import normalised

SEEDS = range(5)
EXACT = pytest.approx
REFERENCES = (
    ("a man rides a brown horse", "a person on a horse in a field", "man riding a horse"),
    ("two dogs play in the snow", "dogs are playing in snow"),
    (
        "a red bus on a city street",
        "the bus is red",
        "a bus drives down the street in the city",
        "red double decker bus",
    ),
    ("a plate of food with rice and beans",),
)
CAPTIONS = (
    "a man riding a brown horse in a field",
    "two dogs run in the snow",
    "a red bus on the street",
    "a bowl of rice and beans on a table",
)


def scored(seed: int, classes: int, number: int = 60) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, (number,), generator=generator)
    target[:classes] = torch.arange(classes)
    scores = torch.randn(number, classes, generator=generator)
    scores[torch.arange(number), target] += 1
    return scores.log_softmax(-1), target


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("classes", [2, 5])
def test_classification(seed: int, classes: int) -> None:
    scores, target = scored(seed, classes)
    chosen = scores.argmax(-1).numpy()
    average = "binary" if classes == 2 else "macro"
    expected = {
        "accuracy": reference.accuracy_score(target, chosen),
        "mean-per-class": reference.balanced_accuracy_score(target, chosen),
        "f1": reference.f1_score(target, chosen, average=average),
        "matthews": reference.matthews_corrcoef(target, chosen),
    }
    p = scores.double().exp()
    p /= p.sum(-1, keepdim=True)
    expected["roc-auc"] = (
        reference.roc_auc_score(target, p[:, 1])
        if classes == 2
        else reference.roc_auc_score(target, p, multi_class="ovr")
    )
    for name, value in expected.items():
        assert compute_metric(name, scores, target) == EXACT(value, abs=1e-6), name


@pytest.mark.parametrize("seed", SEEDS)
def test_spearman(seed: int) -> None:
    answers = ("0", "1.5", "3", "4", "5")
    scores, target = scored(seed, 5)
    values = np.array([float(answer) for answer in answers])
    expected = spearmanr(scores.double().exp().numpy() @ values, values[target]).statistic
    assert compute_metric("spearman", scores, target, answers=answers) == EXACT(expected, abs=1e-6)
    with pytest.raises(InputError, match="the answers must be numbers"):
        compute_metric("spearman", scores, target, answers=("a", "b", "c", "d", "e"))


def voc_ap(recall: list[float], precision: list[float]) -> float:
    """The development kit's loop over eleven recalls."""
    total = 0.0
    for step in np.arange(0.0, 1.1, 0.1):
        beyond = [p for r, p in zip(recall, precision, strict=True) if r >= step - 1e-12]
        total += max(beyond, default=0.0) / 11
    return total


@pytest.mark.parametrize("seed", SEEDS)
def test_eleven_point_map(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(50, 6, generator=generator)
    relevant = torch.rand(50, 6, generator=generator) < 0.3
    relevant[:, 5] = False
    expected = []
    for label in range(5):
        precision, recall, _ = reference.precision_recall_curve(relevant[:, label], scores[:, label])
        expected.append(voc_ap(list(recall[:-1]), list(precision[:-1])))
    found = compute_metric("11-point-map", scores, relevant.float().argmax(-1), relevant)
    assert found == EXACT(np.mean(expected), abs=1e-6)
    with pytest.raises(InputError, match="no example has a label"):
        compute_metric("11-point-map", scores, torch.zeros(50).long(), torch.zeros_like(relevant))


def test_ties_are_taken_together() -> None:
    scores, relevant = torch.zeros(4, 1), torch.tensor([[True], [False], [False], [True]])
    assert compute_metric("11-point-map", scores, torch.zeros(4).long(), relevant) == EXACT(0.5)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall(k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 30, generator=generator)
    relevant = torch.rand(40, 30, generator=generator) < 0.1
    rank = np.array(
        [
            next((i for i, j in enumerate(row.argsort(descending=True)) if right[j]), 99)
            for row, right in zip(scores, relevant, strict=True)
        ]
    )
    assert compute_metric(f"recall@{k}", scores, torch.zeros(40).long(), relevant) == EXACT((rank < k).mean(), abs=1e-6)


def test_roc_auc_needs_every_class() -> None:
    with pytest.raises(InputError, match="examples of every class"):
        compute_metric("roc-auc", torch.zeros(3, 2), torch.zeros(3).long())


def test_captions() -> None:
    """The figures are those of pycocoevalcap 1.2 on the same words."""
    assert compute_text_metric("cider", CAPTIONS, REFERENCES) == EXACT(2.6354653106082955, abs=1e-6)
    assert compute_text_metric("bleu-4", CAPTIONS, REFERENCES) == EXACT(0.3851942370934456, abs=1e-6)
    streams = [[some[min(i, len(some) - 1)] for some in REFERENCES] for i in range(4)]
    assert compute_text_metric("bleu-4", CAPTIONS, REFERENCES) == EXACT(
        corpus_bleu(CAPTIONS, streams).score / 100, abs=1e-6
    )
    assert compute_text_metric("cider", CAPTIONS, [[caption.upper() + "."] for caption in CAPTIONS]) == EXACT(10)


def official_vqa(written: str, references: list[str]) -> float:
    """The evaluation's loop: leave one person out, count the others who agree."""
    values = [min(1.0, sum(other == written for j, other in enumerate(references) if j != i) / 3) for i in range(10)]
    return sum(values) / 10


@pytest.mark.parametrize("agree", range(11))
def test_vqa(agree: int) -> None:
    references = ["red"] * agree + ["blue"] * (10 - agree)
    assert compute_text_metric("vqa-accuracy", ["red"], [references]) == EXACT(
        official_vqa("red", references), abs=1e-6
    )


def test_answers_are_compared_as_people_mean_them() -> None:
    assert normalised("The  two Dogs!") == "2 dogs"
    assert normalised("it's 1,000.5") == "its 1000.5"
    assert compute_text_metric("exact-match", ["A dog.", "cat"], [["dog"], ["dog", "bird"]]) == 0.5
    assert compute_text_metric("vqa-accuracy", ["a dog"], [["dog"]]) == 1


def test_boxes() -> None:
    assert parse_box("a cat<loc_10><loc_20><loc_30><loc_40>") == (10, 20, 30, 40)
    assert parse_box("[1, 2.5, -3, 4]") == (1, 2.5, -3, 4)
    assert parse_box("none here 1 2 3") is None
    cells = np.zeros((2, 40, 40), bool)
    for i, (left, top, right, bottom) in enumerate([(2, 3, 20, 30), (10, 5, 25, 35)]):
        cells[i, top:bottom, left:right] = True
    expected = (cells[0] & cells[1]).sum() / (cells[0] | cells[1]).sum()
    assert overlap((2, 3, 20, 30), (10, 5, 25, 35)) == EXACT(expected, abs=1e-6)
    assert overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    written = ["<loc_0><loc_0><loc_10><loc_10>", "0 0 10 4", "nothing"]
    assert compute_text_metric("iou@0.5", written, [["0 0 10 10"]] * 3) == EXACT(1 / 3)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="unknown metric 'nothing'; expected one of: accuracy"):
        compute_metric("nothing", torch.zeros(1, 2), torch.zeros(1).long())
    with pytest.raises(InputError, match="unknown metric 'accuracy' of written answers"):
        compute_text_metric("accuracy", ["a"], [["a"]])
    with pytest.raises(InputError, match="1 answers for 2 examples"):
        compute_text_metric("cider", ["a"], [["a"], ["b"]])
    assert {name for name in metric_names() if reads_text(name)} >= {"cider", "bleu-4", "vqa-accuracy", "iou@0.5"}
