"""`python -m samebox`: the command line of `samebox.cli`."""

from samebox.cli import main

main()
