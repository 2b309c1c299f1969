"""Frozen foundation models behind one contract."""

from pitune.backbones.base import LONGEST_ANSWER as LONGEST_ANSWER
from pitune.backbones.base import Answers as Answers
from pitune.backbones.base import Backbone as Backbone
from pitune.backbones.base import Batch as Batch
from pitune.backbones.base import Matching as Matching
from pitune.backbones.base import Writing as Writing
from pitune.backbones.base import batch_answers as batch_answers
from pitune.backbones.base import has_open_answers as has_open_answers
from pitune.backbones.base import has_several_labels as has_several_labels
from pitune.backbones.base import listed_answers as listed_answers
from pitune.backbones.base import masked_log_softmax as masked_log_softmax
from pitune.backbones.base import target_losses as target_losses
from pitune.backbones.checkpoint import Checkpoint as Checkpoint
from pitune.backbones.family import FAMILIES as FAMILIES
from pitune.backbones.family import Family as Family
from pitune.backbones.loading import load_backbone as load_backbone
