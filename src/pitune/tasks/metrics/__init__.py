"""Metrics by name; each turns answers' scores into one number."""

from pitune.tasks.metrics._registry import compute_metric as compute_metric
from pitune.tasks.metrics._registry import metric_names as metric_names
