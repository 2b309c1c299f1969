"""Pages and figures that a browser shows without a network."""

from pitune.reports._comparison import write_comparison as write_comparison
from pitune.reports._report import save_graph_svg as save_graph_svg
from pitune.reports._report import write_graph as write_graph
from pitune.reports._report import write_report as write_report
from pitune.reports._transfer import save_transfer_svg as save_transfer_svg
