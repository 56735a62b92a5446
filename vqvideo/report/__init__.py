"""Reports for people: codebook metrics with advice and a plot, and HTML pages of runs."""

from vqvideo.report.codebook import CodebookReport, codebook_report
from vqvideo.report.run_page import write_run_page

__all__ = ["CodebookReport", "codebook_report", "write_run_page"]
