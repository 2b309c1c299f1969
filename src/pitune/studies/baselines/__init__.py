"""What one would do without π-Tuning, one file each or a few that are alike; a study measures them side by side."""

from pitune.studies.baselines.baseline import BASELINES as BASELINES
from pitune.studies.baselines.baseline import PI as PI
from pitune.studies.baselines.baseline import SINGLE as SINGLE
from pitune.studies.baselines.baseline import Baseline as Baseline
