"""The AI SDK, a script that Node runs."""

from clients.loop import KEY, NODE_MODULES, ROOT, Client
from clients.python_sdks import INSTRUCTIONS, PATHS, SCRIPTS, folder_turns


def _client(api: str) -> Client:
    name = f"ai-sdk-{api}"
    return Client(
        name,
        PATHS.get(api, PATHS["chat"]),
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
    )


NODE_SDKS = [_client(api) for api in ("responses", "chat", "compatible", "messages")]
