"""openai-agents, with both of its models."""

import asyncio

import agents
from folder import API, INSTRUCTIONS, KEY, MODEL, QUESTION, URL, list_folder, read_file
from openai import AsyncOpenAI


async def main() -> None:
    agents.set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
    kinds = {
        "chat": agents.OpenAIChatCompletionsModel,
        "responses": agents.OpenAIResponsesModel,
    }
    agent = agents.Agent(
        "Reader",
        instructions=INSTRUCTIONS,
        model=kinds[API](MODEL, client),
        tools=[agents.function_tool(list_folder), agents.function_tool(read_file)],
    )
    run = agents.Runner.run_streamed(agent, QUESTION)
    async for _ in run.stream_events():
        pass
    print(run.final_output)


asyncio.run(main())
