"""Frozen foundation models behind one contract."""

from pitune.backbones._contract import Backbone as Backbone
from pitune.backbones._contract import Batch as Batch
from pitune.backbones._contract import masked_log_softmax as masked_log_softmax
from pitune.backbones._load import load_backbone as load_backbone
