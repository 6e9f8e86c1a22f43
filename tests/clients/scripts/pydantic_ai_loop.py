"""pydantic-ai, with three of its models."""

import asyncio

from folder import API, INSTRUCTIONS, KEY, MODEL, QUESTION, URL, list_folder, read_file
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


async def main() -> None:
    if API == "messages":
        model = AnthropicModel(MODEL, provider=AnthropicProvider(base_url=URL, api_key=KEY))
    else:
        kind = {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel}[API]
        model = kind(MODEL, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY))
    agent = Agent(model, instructions=INSTRUCTIONS, tools=[list_folder, read_file])
    result = await agent.run(QUESTION)
    print(result.output)


asyncio.run(main())
