"""Generate a clip: `python tools/generate_clip.py`, the same as `vqvideo generate`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="generate"))
