"""What a kind of expert is: where it attaches, how it starts, mixes, merges and shrinks, and what PEFT calls it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from pitune.backbones import Backbone
from pitune.errors import InputError, first_problem
from pitune.experts.sketches import directions

if TYPE_CHECKING:
    from pitune.experts.expert import Expert

Tensors = Mapping[str, Tensor]
Tell = Callable[[str], None]  # takes a line for whoever looks on
Changes = dict[str, Tensor]  # by name of a layer's parameter, in its shape
MOST = 1 << 16  # of what settings count: ranks, lengths, modules
Size = Annotated[int, Field(ge=1, le=MOST, strict=True)]
Names = Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST)]


class KindSettings(BaseModel):
    """The settings of one kind of expert, checked when read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        kinds = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (kinds, *get_args(kinds)):
            raise PydanticCustomError("truth", "input should not be true or false")
        return value


@dataclass(frozen=True)
class Attachment:
    """Modules put into a backbone: `paths` maps an expert tensor's name to its parameter's path.

    `readers` are the paths of those whose input loses some of its numbers where training drops them out.
    """

    paths: Mapping[str, str]
    detach: Callable[[], None]
    readers: tuple[str, ...] = ()


class Kind(ABC):
    """A kind of expert: everything that is particular to it, so that no other code asks for a kind by its name.

    Tensors are named `<submodule of the backbone>.<parameter>`. What is given here as a default suits kinds whose
    parameters are mixed one by one and which nothing but their own modules can express.
    """

    name: ClassVar[str]
    settings: ClassVar[type[KindSettings]]
    roles: ClassVar[tuple[str, ...]]
    """Roles of a backbone's submodules (`Backbone.sites`) without which the kind has no place there."""
    linear: ClassVar[bool] = False
    """Whether what a site computes from its input is affine in the mixing weights."""
    neutral: ClassVar[float] = 0.0
    """The value of a parameter that leaves the backbone as it is; what is mixed is the distance from it."""
    adds_input: ClassVar[bool] = False
    """Whether it adds to what is read, as prompts and prefixes do, so that no value leaves the backbone as it is."""
    merges: ClassVar[bool] = False
    """Whether a change of the backbone's own weights can express it."""
    ranked: ClassVar[bool] = False
    """Whether an expert has a rank, so that `truncate` can make it smaller."""
    exports: ClassVar[bool] = False
    """Whether PEFT has a kind like it, that `to_peft` makes one of."""
    sizes: ClassVar[tuple[str, ...]] = ()
    """Settings that are the size of a tensor, such as a rank."""
    learning_rate: ClassVar[float] = 3e-3
    """What few labels are learned at unless told, docs/settings.md."""
    steady_rate: ClassVar[float | None] = None
    """The same where nothing much pulls a run back, if that is another: labels kept apart stop it, or it has many."""
    at_answers: ClassVar[bool] = False
    """Whether it touches answers alone: inputs are then read once, and a step costs the same however many it holds."""
    peft_type: ClassVar[str] = ""
    """What PEFT calls it, where `from_peft` can read it."""

    def has_place(self, backbone: Backbone) -> bool:
        """Return whether a backbone has submodules of every role that the kind needs."""
        return all(backbone.sites(role) for role in self.roles)

    def default(self, backbone: Backbone) -> dict[str, Any]:
        """Return the settings that depend on the backbone, such as where to attach."""
        return {"target_modules": tuple(site for role in self.roles for site in backbone.sites(role))}

    def resolved(self, backbone: Backbone, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return given settings with what only the backbone can read, such as words, as the settings hold it."""
        return dict(values)

    @abstractmethod
    def attach(self, backbone: Backbone, settings: Any) -> Attachment:
        """Put the expert's modules into `backbone.module`."""

    @abstractmethod
    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: Any) -> Tensor:
        """Return the starting value of one tensor.

        Together they leave the backbone's outputs as they are, unless the expert adds to what is read
        (prompts and prefixes).
        """

    def check(self, settings: Any, tensors: Tensors, where: str) -> None:
        """Raise `InputError` where stored settings ask for more than their tensors hold, before anything is built."""
        largest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
        for field in self.sizes:
            if getattr(settings, field) > largest:
                found = f"{field} is {getattr(settings, field)}, and no tensor is larger than {largest}"
                raise InputError(f"{where}: {found}; fetch or train the expert again")
        targets = getattr(settings, "target_modules", ())
        if not isinstance(targets, str) and len(targets) > len(tensors):
            found = f"target_modules names {len(targets)} modules, and there are {len(tensors)} tensors"
            raise InputError(f"{where}: {found}; fetch or train the expert again")

    def site(self, tensor: str) -> str:
        """Return the submodule that a tensor belongs to, the smallest unit that a mixing weight covers."""
        return tensor.rsplit(f".{self.name}.", 1)[0]

    def combined(self, settings: Sequence[Any], tensors: Sequence[Tensors]) -> KindSettings:
        """Return the settings of a mix; raise `InputError` naming the first setting that must agree and does not."""
        return same_settings(self.name, settings)

    def combine(self, settings: Sequence[Any], tensors: Sequence[Tensors], weights: Tensors) -> dict[str, Tensor]:
        """Mix K experts with weights (K,) per site, differentiably, to the tensors of one."""
        return combine_parameters(self, tensors, weights)

    def adds_nothing(self, settings: Any, tensors: Tensors) -> bool:
        """Return whether an expert leaves any mix as it is, whatever its weight there."""
        return all(bool((value == self.neutral).all()) for value in tensors.values())

    def untouched(self, settings: Any, tensors: Tensors) -> bool:
        """Return whether the backbone answers with the expert as without it."""
        return not self.adds_input and self.adds_nothing(settings, tensors)

    def distance(self, settings: Any, tensors: Tensors, other: Tensors) -> Tensor:
        """Return how far apart two experts of the same settings are, squared: a scalar, differentiable in `tensors`."""
        return squared_distance(tensors, other)

    def projection(self, settings: Any, tensors: Tensors) -> Tensor:
        """Return a random projection (16,) of what the expert adds, 0 where that is nothing: copies have the same.

        Its squared length is 16 times that of what is projected, on average.
        """
        total = torch.zeros(len(directions("", 1)))
        for name, value in tensors.items():
            rows = (value.float() - self.neutral).reshape(value.shape[0] if value.ndim else 1, -1)
            left, right = (directions(f"{name} {i}", size) for i, size in enumerate(rows.shape))
            total += (left @ rows * right).sum(1)
        return total

    def rank_and_scale(self, settings: Any) -> tuple[int, float] | None:
        """Return the rank and the factor on the update that the settings name, where the kind is `ranked`."""
        return None

    def beside(self, backbone: Backbone, neighbour: KindSettings, changes: Mapping[str, Any]) -> KindSettings:
        """Return the settings of a new expert that is to be mixed with a neighbour: the neighbour's, with changes."""
        changes = self.resolved(backbone, changes)
        return read_settings(self, {**neighbour.model_dump(), **changes}, f"method {self.name!r}")

    def changes(self, layer: nn.Module, settings: Any, tensors: Tensors, site: str) -> Changes:
        """Return what the expert adds to the parameters of the layer at a site, where the kind `merges`.

        Raise `InputError` if the layer has no place for the change.
        """
        raise InputError(f"experts of kind {self.name!r} cannot merge into a backbone's weights")

    def truncate(self, settings: Any, tensors: Tensors, rank: int) -> tuple[KindSettings, dict[str, Tensor], float]:
        """Return the nearest expert of a rank and its error relative to ΔW (Frobenius), where the kind is `ranked`."""
        raise InputError(f"a rank was asked for, but {self.name!r} experts have none; leave it out")

    def rank_within(self, settings: Any, tensors: Tensors, error: float) -> int:
        """Return the smallest rank that `truncate` makes of it at no more than this error, where it is `ranked`."""
        raise InputError(f"a rank was asked for, but {self.name!r} experts have none; leave it out")

    def peft(self, settings: Any) -> dict[str, Any] | None:
        """Return PEFT's `adapter_config.json` of the same expert, or None where plain PEFT cannot load its tensors."""
        return None

    def to_peft(self, expert: Expert, backbone: Backbone | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return PEFT's configuration and tensors of an expert; raise `InputError` where PEFT has no such kind."""
        settings = self.peft(expert.settings)
        if settings is None:
            raise InputError(f"PEFT has no experts like {self.name!r}; load it with pitune.load_expert instead")
        return settings, dict(expert.tensors)

    def from_peft(
        self, config: Mapping[str, Any], stored: Tensors, backbone: Backbone, where: str, tell: Tell
    ) -> tuple[KindSettings, dict[str, Tensor]]:
        """Return settings and tensors of PEFT's `adapter_config.json` and weights; `InputError` if not supported.

        `tell` takes a line on whatever was passed over and may matter.
        """
        raise InputError(f"{where}: is of PEFT type {config.get('peft_type')!r}, which is not read")


def squared_distance(tensors: Tensors, other: Tensors) -> Tensor:
    """Return `Σ ‖φ − φ'‖²` over all tensors, a scalar."""
    return torch.stack([(value - other[name]).square().sum() for name, value in tensors.items()]).sum()


def read_settings(kind: Kind, values: Mapping[str, Any], where: str) -> KindSettings:
    """Check the settings of a kind; raise `InputError` naming the field that is wrong."""
    try:
        return kind.settings.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(f"{where}: {first_problem(error)}") from error


def kaiming(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return values uniform in ±1/√(inputs), PyTorch's own start for a linear layer's weight (out, in)."""
    bound = 1.0 / math.sqrt(shape[-1])
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return values of N(0, 0.02²), where prompts start."""
    return torch.empty(shape).normal_(std=0.02, generator=generator)


def same_settings(kind: str, settings: Sequence[KindSettings]) -> KindSettings:
    """Return the settings that all experts share, whatever the order in which they name their modules.

    Raise `InputError` naming the first setting that differs.
    """
    for other in settings[1:]:
        for field, value in settings[0]:
            if _plain(getattr(other, field)) != _plain(value):
                raise InputError(
                    f"cannot mix {kind} experts that differ in {field}: "
                    f"found {value!r} and {getattr(other, field)!r}; expected one setting"
                )
    return settings[0]


def _plain(value: object) -> object:
    return frozenset(value) if isinstance(value, tuple) and all(isinstance(one, str) for one in value) else value


def combine_parameters(kind: Kind, tensors: Sequence[Tensors], weights: Tensors) -> dict[str, Tensor]:
    """Mix parameters name by name: `φ̄ = Σ_j α_j φ_j` with one weight vector α per site (π-Tuning, step 3).

    What is mixed is the distance from the kind's neutral value φ₀, so that weights of sum 0 are no expert at all:
    `φ̄ = φ₀ + Σ_j α_j (φ_j − φ₀)`.
    """
    mixed = {}
    for name in tensors[0]:
        weight = weights[kind.site(name)]
        stacked = torch.stack([one[name] for one in tensors]) - kind.neutral
        mixed[name] = torch.einsum("k,k...->...", weight, stacked) + kind.neutral
    return mixed
