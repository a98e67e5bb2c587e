"""``python -m vllm_edit`` is the same as ``vllm-edit``."""

import sys

from vllm_edit.cli import main

sys.exit(main())
