"""Mix experts: by given weights, or trained together on a target."""

from pitune.interpolation._choice import Candidate as Candidate
from pitune.interpolation._learner import MixtureLearner as MixtureLearner
from pitune.interpolation._learner import Rates as Rates
from pitune.interpolation._mix import mix as mix
from pitune.interpolation._tune import TuneResult as TuneResult
from pitune.interpolation._tune import TuneSettings as TuneSettings
from pitune.interpolation._tune import tune_expert as tune_expert
from pitune.interpolation._weights import MixingWeights as MixingWeights
