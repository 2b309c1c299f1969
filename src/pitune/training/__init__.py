"""One loop that trains experts, and what it needs."""

from pitune.training._batching import by_length as by_length
from pitune.training._batching import epoch_batches as epoch_batches
from pitune.training._evaluate import Evaluation as Evaluation
from pitune.training._evaluate import calibrated_losses as calibrated_losses
from pitune.training._evaluate import check_backbone as check_backbone
from pitune.training._evaluate import evaluate_expert as evaluate_expert
from pitune.training._evaluate import evaluate_tensors as evaluate_tensors
from pitune.training._fit import INITIAL_SEED as INITIAL_SEED
from pitune.training._fit import Data as Data
from pitune.training._fit import SingleLearner as SingleLearner
from pitune.training._fit import continued as continued
from pitune.training._fit import expert_name as expert_name
from pitune.training._fit import expert_stem as expert_stem
from pitune.training._fit import fit_expert as fit_expert
from pitune.training._fit import sample as sample
from pitune.training._fit import start_learner as start_learner
from pitune.training._fit import untrained as untrained
from pitune.training._loop import Feed as Feed
from pitune.training._loop import Learner as Learner
from pitune.training._loop import Look as Look
from pitune.training._loop import Trained as Trained
from pitune.training._loop import train as train
from pitune.training._loop import train_on as train_on
from pitune.training._settings import TrainingSettings as TrainingSettings
from pitune.training._settings import target_training as target_training
