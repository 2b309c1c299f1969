"""Metrics by name; some are computed from answers' scores, some from written answers."""

from pitune.tasks.metrics.metric import Chosen as Chosen
from pitune.tasks.metrics.metric import Metric as Metric
from pitune.tasks.metrics.registry import METRICS as METRICS
from pitune.tasks.metrics.registry import compute_metric as compute_metric
from pitune.tasks.metrics.registry import compute_text_metric as compute_text_metric
from pitune.tasks.metrics.registry import worth as worth
