"""The projects in these folders are installed by tests, never collected: one cannot be imported."""

collect_ignore_glob = ["*/*"]
