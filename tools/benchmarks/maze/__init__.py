"""`tools/benchmark.py maze`: evaluation of an action-conditional video model."""
