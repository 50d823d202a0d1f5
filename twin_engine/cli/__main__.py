"""``python -m twin_engine.cli`` is ``twin-engine``."""

from twin_engine.cli import main

main()
