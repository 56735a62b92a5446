"""What a person looks at to judge a model: figures, one sentence of advice, a picture."""

from vqvideo.report.codebook import CodebookReport, codebook_report
from vqvideo.report.page import write_page

__all__ = ["CodebookReport", "codebook_report", "write_page"]
