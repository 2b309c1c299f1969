"""Experts that train together with their mixing weights: one forward pass whatever their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pitune.experts import Kind, KindSettings, Tensors
from pitune.interpolation.weights import MixingWeights


@dataclass(frozen=True)
class Rates:
    """Factors on the learning rate; 0 freezes."""

    own: float = 1.0
    neighbours: float = 1.0
    weights: float = 1.0

    @property
    def any(self) -> bool:
        """Whether anything trains."""
        return max(self.own, self.neighbours, self.weights) > 0


class MixtureLearner:
    """`φ̄ = Σ_j α_j φ_j`, trained in α and the φ_j at once (π-Tuning, step 3). The target's own expert is first."""

    def __init__(
        self,
        kind: Kind,
        settings: Sequence[KindSettings],
        tensors: Sequence[Tensors],
        *,
        weights: MixingWeights,
        rates: Rates,
    ) -> None:
        self._kind, self._settings, self.weights = kind, settings, weights
        self.experts = [{name: value.clone() for name, value in one.items()} for one in tensors]
        self._own = kind.combined(settings, tensors)
        self._start = {name: value.detach().clone() for name, value in self.tensors().items()}
        self._leaves = [(value, rates.own) for value in self.experts[0].values()]
        self._leaves += [(value, rates.neighbours) for one in self.experts[1:] for value in one.values()]
        self._leaves += [(value, rates.weights) for value in weights.alpha.values()]
        self._leaves = [(value, rate) for value, rate in self._leaves if rate > 0]

    def parameters(self) -> list[tuple[Tensor, float]]:
        """Return what trains, each with its factor on the learning rate; what has the factor 0 is not among it."""
        return self._leaves

    def tensors(self) -> Tensors:
        """Return the mix as one expert's tensors, through which gradients reach every φ_j and α."""
        return self._kind.combine(self._settings, self.experts, self.weights.by_site())

    def moved(self, tensors: Tensors) -> Tensor:
        """Return how far the mix is from where training began, squared: a scalar."""
        return self._kind.distance(self._own, tensors, self._start)
