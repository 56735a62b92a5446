"""The same as `vqvideo record-maze`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="record-maze"))
