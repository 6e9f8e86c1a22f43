"""Short commands of the system, asked for one value."""

import subprocess


def output_of(*command: str) -> str | None:
    """What the command prints, without white space around it; None if it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def sysctl(name: str) -> str | None:
    """A value of the kernel of macOS; None if there is no such value."""
    return output_of("sysctl", "-n", name)
