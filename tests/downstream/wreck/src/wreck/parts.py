"""What can be imported, and fails later."""

import sys


class NoBase:
    """A decoder, but no subclass of `Decoder`."""

    def __init__(self, *, rank, channels, z_channels, strides):
        pass


def no_sizes(*, width=8):
    """A decoder that does not take what every decoder is given."""


def no_config():
    """A model, but no config."""
    return {"encoder": "conv"}


def leaves():
    """A quantizer that exits the interpreter when it is built."""
    sys.exit(3)


def taken():
    """Offered under names that others have."""
    raise AssertionError("nobody may ask for this")
