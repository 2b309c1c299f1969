"""Cases for the contracts: every kind of expert on every tiny family that has a place for it."""

from __future__ import annotations

import pytest
from tests.contracts.cases import CASES, Case, make_case

from pitune.backbones import Batch
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task


@pytest.fixture(scope="session")
def pocket_batch(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> Batch:
    task = tiny_tasks["place"]
    return tiny_backbone.prepare(task.examples("test")[:6], task)


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, tiny_backbone: Pocket, pocket_batch: Batch) -> Case:
    """A kind of expert on a family."""
    return make_case(request.param, tiny_backbone, pocket_batch)
