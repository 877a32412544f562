"""`python -m app.cli`, where the script is not on PATH."""

from app.cli.entry import main

main()
