"""The same as `vqvideo decode`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="decode"))
