"""The same as `vqvideo play`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="play"))
