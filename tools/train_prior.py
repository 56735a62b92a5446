"""The same as `vqvideo train-prior`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="train-prior"))
