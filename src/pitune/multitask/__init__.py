"""One expert for many tasks: mixtures of tasks, source experts, and groups of targets (MVLPT, arXiv 2211.11720)."""

from pitune.multitask._fit import embed_tasks as embed_tasks
from pitune.multitask._fit import fit_multitask as fit_multitask
from pitune.multitask._fit import multitask_name as multitask_name
from pitune.multitask._groups import Grouping as Grouping
from pitune.multitask._groups import group_tasks as group_tasks
from pitune.multitask._mixing import Mixing as Mixing
from pitune.multitask._mixing import read_mixing as read_mixing
from pitune.multitask._mixture import Member as Member
from pitune.multitask._mixture import Mixture as Mixture
from pitune.multitask._mixture import Scope as Scope
