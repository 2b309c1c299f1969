"""Batches of several tasks: other tasks' answers are out of reach, equal names one label, broken tasks are named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch

from pitune.backbones import Batch
from pitune.errors import InputError
from pitune.experts import KINDS, Attached, Tensors, attached, initial_tensors, make_settings
from pitune.pocket.backbone import Pocket
from pitune.tasks import Draw, Example, Task
from pitune.training import Mixture, read_mixing
from pitune.training.mixture import Scope


def member(task: Task, examples: Sequence[Example] | None = None, validation: Sequence[Example] = ()) -> Draw:
    return Draw(task, tuple(task.examples("train") if examples is None else examples), tuple(validation))


def mixture(
    members: list[Draw], mixing: str = "balanced", scope: Scope = "task", size: int = 12, seed: int = 0
) -> Mixture:
    return Mixture(members, read_mixing(mixing), scope, size, seed)


@pytest.fixture
def place(tiny_backbone: Pocket) -> Iterator[Attached]:
    kind = KINDS.get("lora")
    with attached(tiny_backbone, kind, make_settings(kind, tiny_backbone)) as inside:
        yield inside


@pytest.fixture
def tensors(place: Attached) -> Tensors:
    return initial_tensors(KINDS.get("lora"), place.shapes, 0)


def batches(mixed: Mixture, place: Attached, number: int) -> list[Batch]:
    return [mixed.batch(place, i) for i in range(number)]


def test_scores_of_other_tasks_are_out_of_reach(tiny_tasks: dict[str, Task], place: Attached, tensors: Tensors) -> None:
    """Multiplied by 0, as in the released code, other tasks' logits would still take their share of exp(0)."""
    mixed = mixture([member(tiny_tasks[name]) for name in ("taste", "place")])
    both = next(batch for batch in batches(mixed, place, 4) if len({i.split("/")[0] for i in batch.ids}) == 2)
    scores = place.scores(tensors, both)
    assert scores.shape[1] == 5
    for row, name in zip(scores, both.ids, strict=True):
        own = len(tiny_tasks[name.split("/")[0]].answers or ())
        assert int(row.isneginf().sum()) == 5 - own
        torch.testing.assert_close(row.exp().sum(), torch.tensor(1.0))
    assert torch.isfinite(place.losses(tensors, both)).all()


def test_an_example_scores_in_a_mixture_as_it_does_alone(
    tiny_tasks: dict[str, Task], place: Attached, tensors: Tensors
) -> None:
    tasks = [tiny_tasks[name] for name in ("taste", "place", "colour")]
    mixed = mixture([member(task) for task in tasks])
    for batch in batches(mixed, place, 4):
        losses = place.losses(tensors, batch)
        for name, loss in zip(batch.ids, losses, strict=True):
            task = next(task for task in tasks if name.startswith(f"{task.name}/"))
            example = next(one for one in task.examples("train") if name == f"{task.name}/{one.id}")
            alone = place.losses(tensors, place.backbone.prepare([example], task))
            torch.testing.assert_close(loss[None], alone, rtol=1e-4, atol=1e-5)


def test_only_the_answers_of_a_batch_are_read(tiny_tasks: dict[str, Task], place: Attached) -> None:
    tasks = {name: tiny_tasks[name] for name in ("taste", "mood", "place", "colour")}
    mixed = mixture([member(task) for task in tasks.values()])
    for batch in batches(mixed, place, 8):
        present = {name.split("/")[0] for name in batch.ids}
        assert len(batch.answers) == sum(len(tasks[name].answers or ()) for name in present)
        assert present == {"colour"} or "colour" not in present  # images do not share a batch with texts


def test_in_a_union_equal_names_are_one_label(tiny_backbone: Pocket, place: Attached, tensors: Tensors) -> None:
    def task(name: str, answers: tuple[str, ...], template: str) -> Task:
        examples = [Example(f"{i}", answer, text="word1 word2") for i, answer in enumerate(answers)]
        return Task(name, {"train": examples}, answers, answer_template=template)

    one, two = task("one", ("sea", "hill"), "{} word3"), task("two", ("hill", "town"), "{} word4")
    mixed = mixture([member(one), member(two)], scope="union", size=4)
    batch = mixed.batch(place, 0)
    assert len(batch.answers) == 3
    target = {name: int(at) for name, at in zip(batch.ids, batch.target, strict=True)}
    assert target["one/1"] == target["two/0"] == 1
    assert torch.isfinite(place.scores(tensors, batch)).all()
    encoded = tiny_backbone._encode_answers(("sea word3", "hill word3", "town word4"))
    torch.testing.assert_close(batch.answers, encoded)
    apart = mixture([member(one), member(two)], size=4).batch(place, 0)
    assert len(apart.answers) == 4


def test_every_right_label_of_a_task_of_several_counts(place: Attached, tensors: Tensors) -> None:
    answers = ("sea", "hill", "town")
    several = [
        Example(str(i), "sea", text=f"word{i}", references=("sea", "town") if i % 2 else ("sea",)) for i in range(6)
    ]
    task = Task("several", {"train": several}, answers, metric="11-point-map")
    other = Task("single", {"train": [Example("0", "sea", text="word9")]}, answers)
    mixed = mixture([member(task), member(other)], mixing="proportional", size=8)
    batch = next(one for one in batches(mixed, place, 2) if len(one) == 6)
    assert batch.relevant is not None
    for name, row in zip(batch.ids, batch.relevant, strict=True):
        assert int(row.sum()) == (2 if int(name.split("/")[1]) % 2 else 1)
    alone = place.backbone.prepare([several[int(name.split("/")[1])] for name in batch.ids], task)
    torch.testing.assert_close(place.losses(tensors, batch), place.losses(tensors, alone))


def test_epochs_are_reshuffled_and_follow_from_the_seed(tiny_tasks: dict[str, Task], place: Attached) -> None:
    members = [member(tiny_tasks[name]) for name in ("taste", "place")]
    mixed = mixture(members, "proportional")
    an_epoch = 7  # ⌈75 / 12⌉
    first, second = ([b.ids for b in batches(mixed, place, 2 * an_epoch)][part] for part in (slice(7), slice(7, 14)))
    assert first != second
    names = sorted(name for ids in first for name in ids)
    assert names == sorted(name for ids in second for name in ids)
    assert len(set(names)) == len(names) == sum(len(one.train) for one in members)
    again = mixture(members, "proportional")
    assert again.batch(place, 9).ids == second[2]  # without the epoch before
    assert mixture(members, "proportional", seed=1).batch(place, 0).ids != first[0]


def test_the_lowest_mean_over_tasks_counts(tiny_tasks: dict[str, Task], place: Attached, tensors: Tensors) -> None:
    members = [
        member(tiny_tasks[name], validation=tiny_tasks[name].examples("validation")) for name in ("taste", "place")
    ]
    found = mixture(members).look(place, tensors)
    parts = found.parts
    assert found.loss == pytest.approx((parts["taste"]["validation_loss"] + parts["place"]["validation_loss"]) / 2)
    assert found.value == pytest.approx((parts["taste"]["validation"] + parts["place"]["validation"]) / 2)
    assert mixture([member(tiny_tasks["taste"])]).look(place, tensors) is None


def broken(task: Task, kind: str) -> Draw:
    train = list(task.examples("train"))
    if kind == "no examples":
        return member(task, [])
    if kind == "a target that is no answer":
        train[3] = replace(train[3], target="nowhere")
    if kind == "unlike inputs":
        train[3] = replace(train[3], text=None, image=b"x")
    return member(task, train)


@pytest.mark.parametrize("kind", ["no examples", "a target that is no answer", "unlike inputs"])
def test_a_broken_task_is_named(tiny_tasks: dict[str, Task], kind: str) -> None:
    with pytest.raises(InputError, match="task 'place' cannot be part of a mixture"):
        mixture([member(tiny_tasks["taste"]), broken(tiny_tasks["place"], kind)])


def test_a_task_the_backbone_cannot_read_is_named_before_training(tiny_tasks: dict[str, Task], place: Attached) -> None:
    damaged = replace(tiny_tasks["colour"].examples("train")[0], image=b"no image")
    mixed = mixture([member(tiny_tasks["taste"]), member(tiny_tasks["colour"], [damaged])])
    with pytest.raises(InputError, match="task 'colour' cannot be part of a mixture"):
        mixed.check(place)
    open_ended = Task("open", {"train": [Example("0", "anything", text="word1")]})
    with pytest.raises(InputError, match="task 'open' cannot be part of a mixture"):
        mixture([member(tiny_tasks["taste"]), member(open_ended)]).check(place)


def test_a_task_twice_and_no_task_are_refused(tiny_tasks: dict[str, Task]) -> None:
    with pytest.raises(InputError, match="'taste' cannot be part of a mixture: it is there twice"):
        mixture([member(tiny_tasks["taste"])] * 2)
    with pytest.raises(InputError, match="no tasks"):
        mixture([])
