"""Which sources a driver runs: recorded with every trial."""

import subprocess
from pathlib import Path


def source_of_code() -> dict[str, str]:
    """Git commit of this checkout and whether it has changes; empty when the code is installed without git."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return {}
        return {"git_sha": git("rev-parse", "HEAD"), "git_dirty": "true" if git("status", "--porcelain") else "false"}
    except (OSError, subprocess.CalledProcessError):
        return {}
