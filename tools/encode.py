"""The same as `vqvideo encode`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="encode"))
