"""The AI SDK, a script that Node runs."""

from clients.loop import INSTRUCTIONS, KEY, NODE_MODULES, Client
from clients.python_sdks import PATHS, SCRIPTS, folder_turns


def _client(api: str) -> Client:
    """``api``: one of ``PATHS``, "compatible" (chat), or "stored" (responses)."""
    name = f"ai-sdk-{api}"
    return Client(
        name,
        {**PATHS, "compatible": PATHS["chat"], "stored": PATHS["responses"]}[api],
        folder_turns,
        lambda workspace, url: [
            "node",
            SCRIPTS / "ai_sdk.mjs",
            url,
            name,
            workspace.folder,
            INSTRUCTIONS,
            api,
            NODE_MODULES.parent,
        ],
        lambda *_: {"NODE_KEY": KEY, "AI_SDK_LOG_WARNINGS": "false"},
        is_replayed=api != "stored",  # no other node has the answers that it refers to
    )


NODE_SDKS = [_client(api) for api in ("responses", "stored", "chat", "compatible", "messages")]
