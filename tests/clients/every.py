"""All clients."""

from clients.agents import AGENTS
from clients.aider import AIDER_CHAT
from clients.node_sdks import NODE_SDKS
from clients.python_sdks import PYTHON_SDKS

CLIENTS = [*AGENTS, AIDER_CHAT, *NODE_SDKS, *PYTHON_SDKS]
