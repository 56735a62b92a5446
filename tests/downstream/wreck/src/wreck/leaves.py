"""Exits the interpreter."""

import sys

sys.exit(3)
