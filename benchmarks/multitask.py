"""What a step over 20 tasks costs beside a step of one task of the same batch and as many classes.

The tasks are pocket's image tasks, cut by classes into 20; the one task holds the same pictures and all their
answers. Reading the batch, the forward and the backward pass are timed in turn, A B A B, in seconds of
processor time, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from time import process_time

from ratios import paired
from torch import Tensor

from pitune.backbones import load_backbone
from pitune.experts import KINDS, Attached, attached, initial_tensors, make_settings
from pitune.tasks import Draw, Example, Task, load_task
from pitune.training import Feed, Mixture, read_mixing
from pitune.training.loop import _OneTask

TASKS = ("mnist", "fashion", "emoji-images", "openclipart-images", "tuxpaint-images")
PARTS = 4  # of each
PER_PART = 8


def parts_of(task: Task) -> list[Task]:
    """Return a task as several, each with some of its classes and a few of their examples."""
    answers = task.answers or ()
    found = []
    for i in range(PARTS):
        own = answers[i::PARTS]
        examples = [example for example in task.examples("train") if example.target in own][:PER_PART]
        found.append(replace(task, name=f"{task.name}/{i}", splits={"train": examples}, answers=own))
    return found


def merged(tasks: list[Task]) -> Task:
    """Return all examples as one task of all answers."""
    examples = [
        Example(f"{task.name}/{one.id}", task.answer_text(one.target), image=one.image)
        for task in tasks
        for one in task.examples("train")
    ]
    answers = dict.fromkeys(task.answer_text(answer) for task in tasks for answer in task.answers or ())
    return Task("all in one", {"train": examples}, tuple(answers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    backbone = load_backbone("pocket")
    tasks = [part for name in TASKS for part in parts_of(load_task(f"pocket/{name}"))]
    single = merged(tasks)
    mixture = Mixture(
        [Draw(task, tuple(task.examples("train"))) for task in tasks],
        read_mixing("balanced"),
        "task",
        arguments.batch,
        0,
    )
    alone = _OneTask(single, single.examples("train"), (), arguments.batch, 0)
    found: dict[str, object] = {"tasks": len(tasks), "classes of the one task": len(single.answers or ())}
    an_epoch = len(single.examples("train")) // arguments.batch
    for method in ("lora", "visual_prompt", "text_prompt"):
        kind = KINDS.get(method)
        config = make_settings(kind, backbone)
        with attached(backbone, kind, config) as place:
            start = initial_tensors(kind, place.shapes, 0, config)
            leaves = {name: value.requires_grad_() for name, value in start.items()}
            for index in range(an_epoch):  # what is cached is there before
                mixture.batch(place, index), alone.batch(place, index)
            classes = [len(mixture.batch(place, index).answers) for index in range(an_epoch)]
            timed = paired(
                stepper(place, leaves, mixture), stepper(place, leaves, alone), arguments.rounds, process_time
            )
            found[method] = {**timed, "classes in a batch of many": sum(classes) / len(classes)}
    print(json.dumps(found, indent=2))


def stepper(place: Attached, leaves: dict[str, Tensor], feed: Feed) -> Callable[[], None]:
    """Return a function that takes the next step of a feed."""
    steps = count()

    def step() -> None:
        place.losses(leaves, feed.batch(place, next(steps))).mean().backward()

    return step


if __name__ == "__main__":
    main()
