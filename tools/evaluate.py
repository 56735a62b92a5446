"""The same as `vqvideo evaluate`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="evaluate"))
