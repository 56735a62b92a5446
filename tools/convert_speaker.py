"""The same as `vqvideo convert-speaker`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="convert-speaker"))
