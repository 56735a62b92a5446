"""Prints where only results belong, and builds what is no likelihood."""

print("hello from wreck")


def build():
    return "not a likelihood"
