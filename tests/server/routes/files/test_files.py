"""``/v1/files`` of a real worker, through OpenAI's package and by hand."""

import io
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import openai
import psutil
import pytest
from support.worker_process import NARROW_KEY

from mlxnode.batches.store import BatchStore

from .conftest import MAX_FILE, QUOTA
