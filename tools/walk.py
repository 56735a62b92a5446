"""The same as `vqvideo walk`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="walk"))
