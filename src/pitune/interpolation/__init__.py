"""Mix experts: by given weights, or trained together on a target."""

from pitune.interpolation.choice import Candidate as Candidate
from pitune.interpolation.choice import best_scale as best_scale
from pitune.interpolation.choice import equal_shares as equal_shares
from pitune.interpolation.expected import expected_tuning as expected_tuning
from pitune.interpolation.learner import MixtureLearner as MixtureLearner
from pitune.interpolation.learner import Rates as Rates
from pitune.interpolation.mixing import mix as mix
from pitune.interpolation.tune import TuneResult as TuneResult
from pitune.interpolation.tune import TuneSettings as TuneSettings
from pitune.interpolation.tune import tune_expert as tune_expert
from pitune.interpolation.tune import tune_nearest as tune_nearest
from pitune.interpolation.weights import MixingWeights as MixingWeights
