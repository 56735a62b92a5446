"""`tools/benchmark.py speech`: evaluation of reconstruction and speaker conversion."""
