"""What the editor process must not load."""

import subprocess
import sys


def test_the_process_does_without_faiss() -> None:
    """With PyTorch and FAISS in one process, each with its own OpenMP, SIGTERM may not end it."""
    code = "import sys, vllm_edit.editor.process; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
