"""What the tests of planted faults share."""

import pytest

from vqvideo.testing import priors


@pytest.fixture
def only(monkeypatch):
    """Returns a function that leaves one law of priors: what the others find is tested elsewhere,
    and checking all of them before the one in question takes most of the time.
    """

    def leave(name):
        laws = tuple(law for law in priors.LAWS if law.__name__ == name)
        assert laws, f"there is no law {name}"
        monkeypatch.setattr(priors, "LAWS", laws)

    return leave
