"""The same as `vqvideo phonemes`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="phonemes"))
