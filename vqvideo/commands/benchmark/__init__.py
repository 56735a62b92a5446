"""The benchmarks of `vqvideo benchmark`, one module each, and shared measurement code."""
