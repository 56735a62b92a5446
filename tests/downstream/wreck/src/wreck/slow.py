"""Takes its time to be imported."""

import time

time.sleep(1)


def build():
    from vqvideo.presets import image

    return image()
