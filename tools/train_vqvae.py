"""The same as `vqvideo train-vqvae`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="train-vqvae"))
