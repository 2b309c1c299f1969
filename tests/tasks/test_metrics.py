"""Metrics agree with reference implementations, and with numbers that those gave for a fixture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn import metrics as reference
from torch import Tensor

from pitune.errors import InputError
from pitune.tasks import Example, Task
from pitune.tasks.metrics import METRICS, Metric, compute_metric, compute_text_metric, worth
from pitune.tasks.metrics.boxes import overlap, parse_box
from pitune.tasks.metrics.penn import penn_words
from pitune.tasks.metrics.questions import normalised

SEEDS = range(5)
OFFICIAL = json.loads((Path(__file__).parent / "official_scores.json").read_text(encoding="utf-8"))
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


def elevater_ap(scores: np.ndarray, right: np.ndarray) -> float:
    """ELEVATER's curve ends at recall 0 with precision 1; at each recall the best precision from there on counts."""
    curve = [(0.0, 1.0)]
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        curve.append((float(right[taken].sum() / right.sum()), float(right[taken].mean())))
    points = [max(precision for recall, precision in curve if recall >= step / 10 - 1e-12) for step in range(11)]
    return sum(points) / 11


@pytest.mark.parametrize("seed", SEEDS)
def test_elevaters_map_has_precision_one_at_recall_zero(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(40, 4, generator=generator).round(decimals=1)
    relevant = torch.rand(40, 4, generator=generator) < 0.3
    scores[relevant[:, 0].long().argmin(), 0] = 9.0  # the first of a label is wrong
    target = relevant.float().argmax(-1)
    expected = [elevater_ap(scores[:, i].numpy(), relevant[:, i].numpy()) for i in range(4)]
    found = compute_metric("elevater-map", scores, target, relevant)
    assert found == EXACT(np.mean(expected), abs=1e-6)
    assert found > compute_metric("11-point-map", scores, target, relevant)


def test_the_two_maps_differ_where_the_first_is_wrong() -> None:
    """One right of four, second in rank: precision is a half at every recall, but for ELEVATER's 1 at recall 0."""
    scores, relevant = torch.tensor([[4.0], [3.0], [2.0], [1.0]]), torch.tensor([[False], [True], [False], [False]])
    assert compute_metric("11-point-map", scores, torch.zeros(4).long(), relevant) == EXACT(1 / 2)
    assert compute_metric("elevater-map", scores, torch.zeros(4).long(), relevant) == EXACT((10 / 2 + 1) / 11)


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
    assert compute_text_metric("cider", CAPTIONS, [[caption.upper() + "."] for caption in CAPTIONS]) == EXACT(10)


def test_captions_score_as_cocos_scripts_score_them() -> None:
    """Two hundred captions of possessives, contractions, numbers and signs, measured by pycocoevalcap 1.2 with Java."""
    written = [one["written"] for one in OFFICIAL["captions"]]
    references = [one["references"] for one in OFFICIAL["captions"]]
    assert len(written) + sum(map(len, references)) == 200
    assert compute_text_metric("cider", written, references) == EXACT(OFFICIAL["cider"], abs=1e-9)
    assert compute_text_metric("bleu-4", written, references) == EXACT(OFFICIAL["bleu-4"], abs=1e-9)
    halves = [compute_text_metric("cider", written[i::2], references[i::2]) for i in (0, 1)]
    assert np.mean(halves) != EXACT(OFFICIAL["cider"])  # what is rare depends on all captions


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("The man's dog isn't here.", "the man 's dog is n't here"),
        ("boys’ bikes don’t cost $1,000.50", "boys bikes do n't cost $ 1,000.50"),
        ("cannot 'em o'clock y'all '90s", "can not 'em o'clock y' all '90s"),
        ('"U.S." (5 p.m.) Mr. X, etc.', "u.s. -lrb- 5 p.m. -rrb- mr. x etc."),
        ("t-shirt and/or 1/2 #1 50% -- 5'10\"", "t-shirt and/or 1/2 # 1 50 % 5 10"),
        ("what?? no! £5 ½ café 😀 :)", "what ?? no # 5 1/2 café :-rrb-"),
        ("", ""),
    ],
)
def test_words_are_those_of_the_penn_treebank(caption: str, words: str) -> None:
    assert penn_words(caption) == words.split()


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


def test_vqa_scores_as_its_own_script_scores() -> None:
    """Answers of ten people each to 70 questions, measured by VQA v2's evaluation."""
    for one in OFFICIAL["questions"]:
        people = [answer for answer, number in one["people"].items() for _ in range(number)]
        assert len(people) == 10
        found = compute_text_metric("vqa-accuracy", [one["written"]], [people])
        assert found == EXACT(one["accuracy"], abs=1e-7), one


def test_answers_are_compared_as_people_mean_them() -> None:
    assert normalised("The  two Dogs!") == "2 dogs"
    assert normalised("it's 1,000.5") == "it's 1000.5"
    assert normalised("U.S., 5 p.m.") == "us 5 pm"
    assert normalised("dont") == normalised("don't") == "don't"
    assert compute_text_metric("exact-match", ["A dog.", "cat"], [["dog"], ["dog", "bird"]]) == 0.5
    assert compute_text_metric("vqa-accuracy", ["a dog"], [["dog"]]) == 1


def test_boxes() -> None:
    assert parse_box("a cat<loc_10><loc_20><loc_30><loc_40>") == (10, 20, 30, 40)
    assert parse_box("[1, 2.5, -3, 4]") == (1, 2.5, -3, 4)
    assert parse_box("none here 1 2 3") is None
    assert parse_box("2 cars<loc_1><loc_2><loc_3><loc_4>") == (1, 2, 3, 4)
    assert parse_box("<loc_1><loc_2> 30 40") is None
    assert parse_box("2 cars at 10, 20, 30, 40") == (10, 20, 30, 40)
    assert parse_box("car 2 [10, 20, 30, 40]") == (10, 20, 30, 40)
    assert parse_box("cam4: (10 20) (30 40.5).") == (10, 20, 30, 40.5)
    assert parse_box("x1=10, y1=20, x2=30, y2=40") == (10, 20, 30, 40)
    assert parse_box('{"left": 10, "top": 20, "right": 30, "bottom": 40}') == (10, 20, 30, 40)
    assert parse_box("3 dogs, 2 cats, 1 bird and 4 fish") is None
    cells = np.zeros((2, 40, 40), bool)
    for i, (left, top, right, bottom) in enumerate([(2, 3, 20, 30), (10, 5, 25, 35)]):
        cells[i, top:bottom, left:right] = True
    expected = (cells[0] & cells[1]).sum() / (cells[0] | cells[1]).sum()
    assert overlap((2, 3, 20, 30), (10, 5, 25, 35)) == EXACT(expected, abs=1e-6)
    assert overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    written = ["<loc_0><loc_0><loc_10><loc_10>", "0 0 10 4", "nothing"]
    assert compute_text_metric("iou@0.5", written, [["0 0 10 10"]] * 3) == EXACT(1 / 3)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="unknown metric 'acuracy'; did you mean accuracy"):
        compute_metric("acuracy", torch.zeros(1, 2), torch.zeros(1).long())
    with pytest.raises(InputError, match="accuracy reads scores, found written answers"):
        compute_text_metric("accuracy", ["a"], [["a"]])
    with pytest.raises(InputError, match="cider reads written answers, found scores"):
        compute_metric("cider", torch.zeros(1, 2), torch.zeros(1).long())
    with pytest.raises(InputError, match="1 answers, right ones for 2 examples"):
        compute_text_metric("cider", ["a"], [["a"], ["b"]])


@pytest.mark.parametrize(
    ("metric", "answers", "target", "said"),
    [
        ("acuracy", ("a", "b"), "a", "did you mean accuracy"),
        ("accuracy", None, "a", "'t' has open answers, and accuracy reads the scores of listed ones; .* exact-match"),
        ("spearman", ("low", "high"), "low", "spearman reads numbers, found the answer 'low'"),
        ("spearman", ("1", "nan"), "1", "spearman reads numbers, found the answer 'nan'"),
        ("iou@0.5", None, "the left one", "iou@0.5 reads boxes .* found the answer 'the left one'"),
    ],
)
def test_a_task_is_checked_against_its_metric_when_it_is_made(
    metric: str, answers: tuple[str, ...] | None, target: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        Task("t", {"train": [Example("0", target, text="x")]}, answers, metric=metric)


def test_a_task_without_a_metric_has_one_that_reads_its_answers() -> None:
    example = Example("0", "a", text="x")
    assert Task("t", {"train": [example]}, ("a", "b")).metric == "accuracy"
    assert Task("t", {"train": [example]}).metric == "exact-match"
    assert Task("t", {"train": [Example("0", "a", text="x", candidates=("a", "b"))]}).metric == "accuracy"


def test_a_metric_of_ones_own_is_known_by_its_name(request: pytest.FixtureRequest) -> None:
    mine = Metric("test-error", "share of wrong answers", lambda found: 1.0, higher_is_better=False)
    METRICS.register("test-error", mine)
    request.addfinalizer(lambda: METRICS.forget("test-error"))
    assert compute_metric("test-error", torch.zeros(1, 2), torch.zeros(1).long()) == 1.0
    assert Task("t", {}, ("a", "b"), metric="test-error").metric == "test-error"
    assert max([0.1, 0.3], key=lambda value: worth("test-error", value)) == 0.1
    assert worth("accuracy", 0.1) == worth("another package's", 0.1) == 0.1


def test_loading_a_task_imports_no_library_of_metrics(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("label,text\n" + "".join(f"{i % 2},word {i}\n" for i in range(20)), "utf-8")
    heavy = ("torch", "sklearn", "scipy", "sacrebleu")
    code = (
        f"import sys; from pitune.tasks import load_task; load_task('mine.csv'); print(*sys.modules.keys() & {heavy})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize(("metric", "library"), [("f1", "sklearn"), ("spearman", "scipy")])
def test_a_missing_library_is_one_line(metric: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [one for one in sys.modules if one.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=r'pip install "pitune\[metrics\]"'):
        compute_metric(metric, torch.eye(2), torch.arange(2), answers=("0", "1"))
