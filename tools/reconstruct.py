"""The same as `vqvideo reconstruct`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="reconstruct"))
