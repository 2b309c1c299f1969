"""What each study asks, as models: every part of a plan is in the results of its study."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pitune import defaults
from pitune.errors import InputError, first_problem
from pitune.experts.kinds.lora import LORA
from pitune.interpolation import TuneSettings
from pitune.tasks import Draw
from pitune.training import TrainingSettings

Protocol = Literal["coop", "elevater", "cross-task"]
Stage = Literal["zero-adaptation", "adapted"]
STAGES: tuple[Stage, ...] = ("zero-adaptation", "adapted")
KINDS = ("text_prompt", "visual_prompt", "unified_prompt")
SHOTS: dict[Protocol, tuple[int | None, ...]] = {
    "coop": (1, 2, 4, 8, 16),
    "elevater": (5, 20, 50),
    "cross-task": (5, 20, 50),
}

Tasks = Annotated[tuple[str, ...], Field(description="tasks or collections")]


def _known(changes: dict[str, Any]) -> dict[str, Any]:
    TrainingSettings.model_validate(changes)
    return changes


Changes = Annotated[
    dict[str, Any],
    AfterValidator(_known),
    Field(description="fields of its training that are not as is usual for the kind"),
]
Shots = Annotated[int | None, Field(description="examples per class, or all")]


class Plan(BaseModel):
    """What all studies ask of: so many draws of the labels of some tasks, on one backbone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: int = Field(default=1, description="how many draws of the labels")
    first_seed: int = Field(default=0, description="decides every draw")
    test: int | None = Field(default=200, description="examples to score a task by at most")
    backbone: str = Field(default=defaults.BACKBONE, description="name, checkpoint folder or hub id")
    device: str | None = Field(default=None, description="such as cpu or cuda")

    @property
    def all_seeds(self) -> range:
        """The seeds, one a draw."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def but(self, **changes: Any) -> Self:
        """Return the plan with some of it otherwise; raise `InputError` that names what is wrong."""
        try:
            return type(self)(**dict(self) | changes)
        except ValidationError as error:
            raise InputError(f"the plan of a study: {first_problem(error)}") from error

    def whole(self) -> Self:
        """Return the plan with every default said, as results keep it."""
        return type(self).model_validate(self.model_dump())


class ComparePlan(Plan):
    """Leave-one-out over tasks; also what the studies of settings and predictors ask of the same pool."""

    tasks: Tasks = (defaults.TASKS,)
    shots: tuple[Shots, ...] = (4, 16)
    seeds: int = 5
    methods: tuple[str, ...] = Field(default=(), description="what is measured; the default ones where none is named")
    k: int = Field(default=4, ge=1, description="how many neighbours")
    pool: str | None = Field(
        default=None, description="a folder of experts to mix with; trained on the other tasks unless given"
    )
    validation: int = Field(default=128, description="examples at most that a source stops by")
    source_training: TrainingSettings = TrainingSettings(steps=120, evaluations=4)
    tuning: TuneSettings = TuneSettings()

    def training(self, draw: Draw) -> TrainingSettings:
        """Return how a LoRA trains on a draw that labels kept apart stop: as long as `tune` would on so many labels."""
        return self.tuning.training_of(len(draw.train), LORA, stopped=True)


QUICK = ComparePlan(
    tasks=(defaults.QUICK_TASKS,),
    shots=(4,),
    seeds=2,
    k=2,  # of the four others, so that nearest, random and farthest differ
    test=100,
    source_training=TrainingSettings(steps=30, evaluations=2),
    tuning=TuneSettings(training=TrainingSettings(steps=20, batch_size=16, evaluations=4)),
)


PREDICTORS = ComparePlan(shots=(4,), seeds=3, tuning=TuneSettings(training=TrainingSettings(steps=30, evaluations=3)))
DEMO = ComparePlan(
    tasks=(defaults.DEMO_SOURCES, defaults.DEMO_TARGETS),
    shots=(4,),
    seeds=2,
    source_training=TrainingSettings(steps=72, evaluations=3),
)
QUICK_DEMO = DEMO.but(
    tasks=(defaults.QUICK_DEMO_SOURCES, defaults.QUICK_DEMO_TARGETS),
    seeds=1,
    test=100,
    source_training=QUICK.source_training,
    tuning=QUICK.tuning,
)


class PromptPlan(Plan):
    """Targets alone and from a source over other tasks; a target is never among its own sources."""

    protocol: Protocol
    sources: Tasks
    targets: Tasks
    methods: tuple[str, ...] = Field(default=KINDS, description="kinds of expert")
    shots: tuple[Shots, ...] = (4, 16)
    source_shots: Shots = None
    seeds: int = 3
    test: int | None = None
    length: int | None = Field(default=None, description="vectors of a text or visual prompt")
    mixing: str = Field(default="balanced", description="how often sources are drawn")
    source_training: Changes = {}
    training: Changes = {}


class TransferPlan(Plan):
    """Every task's expert on every other task, as it is and adapted."""

    tasks: Tasks
    method: str = Field(default="visual_prompt", description="kind of expert that all the tasks can carry")
    shots: Shots = 16
    source_shots: Shots = None
    stages: tuple[Stage, ...] = STAGES
    length: int | None = Field(default=None, description="vectors of a text or visual prompt")
    source_training: Changes = {}
    training: Changes = {}
