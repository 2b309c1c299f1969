"""Pages and figures that a browser shows without a network."""

from pitune.reports._comparison import points as points
from pitune.reports._comparison import write_comparison as write_comparison
from pitune.reports._prompts import write_prompts as write_prompts
from pitune.reports._prompts import write_transfer as write_transfer
from pitune.reports._report import save_graph_svg as save_graph_svg
from pitune.reports._report import write_graph as write_graph
from pitune.reports._report import write_report as write_report
