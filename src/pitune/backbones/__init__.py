"""Frozen foundation models behind one contract."""

from pitune.backbones._contract import Answers as Answers
from pitune.backbones._contract import Backbone as Backbone
from pitune.backbones._contract import Batch as Batch
from pitune.backbones._contract import Matching as Matching
from pitune.backbones._contract import batch_answers as batch_answers
from pitune.backbones._contract import has_several_labels as has_several_labels
from pitune.backbones._contract import masked_log_softmax as masked_log_softmax
from pitune.backbones._contract import target_losses as target_losses
from pitune.backbones._load import load_backbone as load_backbone
