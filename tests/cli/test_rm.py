"""``mlxnode rm`` as a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import tiny
from support.fake_hub import fake_hub

from mlxnode.cli import rm as module
from mlxnode.errors import ModelError
from mlxnode.figures import EngineFigures, MemoryFigures, ModelFigures, NodeFigures, RunnerFigures
from mlxnode.process.status_socket import StatusSocket
