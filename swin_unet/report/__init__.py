"""One self-contained HTML file per run: scores, and every case to leaf through, offline."""

from swin_unet.report.cases import ReportCase, Shown
from swin_unet.report.page import write_report
from swin_unet.report.run import write_run_report

__all__ = ["ReportCase", "Shown", "write_report", "write_run_report"]
