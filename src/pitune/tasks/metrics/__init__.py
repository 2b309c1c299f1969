"""Metrics by name; some are computed from answers' scores, some from written answers."""

from pitune.tasks.metrics.registry import compute_metric as compute_metric
from pitune.tasks.metrics.registry import compute_text_metric as compute_text_metric
from pitune.tasks.metrics.registry import metric_names as metric_names
from pitune.tasks.metrics.registry import reads_text as reads_text
