"""`python -m v4deploy`."""

import sys

from v4deploy.cli.main import main

sys.exit(main())
