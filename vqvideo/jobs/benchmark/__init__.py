"""What `vqvideo benchmark` measures: one file per benchmark, and what they measure with."""
