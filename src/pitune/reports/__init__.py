"""Pages and figures that a browser shows without a network."""

from pitune.extras import need

for library in ("jinja2", "markupsafe", "networkx", "scipy"):
    need(library, "report")  # before a run, not after it

from pitune.reports.comparison import UNTOUCHED as UNTOUCHED
from pitune.reports.comparison import in_runs as in_runs
from pitune.reports.comparison import interval as interval
from pitune.reports.comparison import points as points
from pitune.reports.comparison import told as told
from pitune.reports.comparison import write_comparison as write_comparison
from pitune.reports.conditions import conditions_of as conditions_of
from pitune.reports.curves import read_curves as read_curves
from pitune.reports.prompts import write_prompts as write_prompts
from pitune.reports.prompts import write_transfer as write_transfer
from pitune.reports.report import save_graph_svg as save_graph_svg
from pitune.reports.report import write_graph as write_graph
from pitune.reports.report import write_report as write_report
from pitune.reports.run import RunReport as RunReport
from pitune.reports.run import write_run as write_run
from pitune.reports.study import findings_of as findings_of
from pitune.reports.study import read_study as read_study
from pitune.reports.study import write_study as write_study
