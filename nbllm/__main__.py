"""`python -m nbllm`: the command line, with the packages of that Python."""

import sys

from nbllm.cli import main

sys.exit(main())
