"""The same as `vqvideo rollout`."""

from vqvideo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="rollout"))
