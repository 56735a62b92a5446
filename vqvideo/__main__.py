"""`python -m vqvideo` is the command `vqvideo`."""

from vqvideo.cli import main

raise SystemExit(main())
