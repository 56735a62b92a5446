"""What a person looks at to judge a model: figures, one sentence of advice, a picture."""

from vqvideo.report.codebook import CodebookReport, codebook_report

__all__ = ["CodebookReport", "codebook_report"]
