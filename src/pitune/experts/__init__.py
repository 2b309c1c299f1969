"""Light parameters: one file per kind, one format on disk, and the pool that keeps them."""

from pitune.experts._expert import Card as Card
from pitune.experts._expert import Expert as Expert
from pitune.experts._expert import Parent as Parent
from pitune.experts._expert import check_tensors as check_tensors
from pitune.experts._method import Attached as Attached
from pitune.experts._method import Attachment as Attachment
from pitune.experts._method import Method as Method
from pitune.experts._method import MethodConfig as MethodConfig
from pitune.experts._method import Tensors as Tensors
from pitune.experts._method import attached as attached
from pitune.experts._method import combine_parameters as combine_parameters
from pitune.experts._method import initial_tensors as initial_tensors
from pitune.experts._method import make_config as make_config
from pitune.experts._method import read_config as read_config
from pitune.experts._registry import get_method as get_method
from pitune.experts._registry import method_names as method_names
from pitune.experts._registry import register_method as register_method
from pitune.experts._storage import check_name as check_name
from pitune.experts._storage import digest as digest
from pitune.experts._storage import load_expert as load_expert
from pitune.experts._storage import save_expert as save_expert
from pitune.experts.merging import merge_into as merge_into
from pitune.experts.merging import save_merged as save_merged
from pitune.experts.peft_format import export_peft as export_peft
from pitune.experts.peft_format import import_peft as import_peft
from pitune.experts.pool import ExpertPool as ExpertPool
