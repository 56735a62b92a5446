"""What can be imported, and fails later."""

import sys


class NoBase:
    """A decoder, but no subclass of `Decoder`."""

    def __init__(self, *, rank, channels, z_channels, strides):
        pass


def build_without_sizes(*, width=8):
    """A decoder that does not take what every decoder is given."""


def build_without_config():
    """A model, but no config."""
    return {"encoder": "conv"}


def build_exiting():
    """A quantizer that exits the interpreter when it is built."""
    sys.exit(3)


def build_shadowed():
    """Offered under names that others have."""
    raise AssertionError("nobody may ask for this")
