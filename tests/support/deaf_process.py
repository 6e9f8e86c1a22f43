"""A helper process that reads nothing."""

import time


def main(descriptor: int) -> None:
    time.sleep(60)
