"""LangChain's agent loop, with the models of OpenAI's and Anthropic's packages."""

from folder import API, INSTRUCTIONS, KEY, MODEL, QUESTION, URL, list_folder, read_file
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

if API == "messages":
    model = ChatAnthropic(model=MODEL, base_url=URL, api_key=KEY, max_retries=0)
else:
    model = ChatOpenAI(
        model=MODEL,
        base_url=f"{URL}/v1",
        api_key=KEY,
        max_retries=0,
        use_responses_api=API == "responses",
    )
agent = create_agent(model, tools=[list_folder, read_file], system_prompt=INSTRUCTIONS)
result = agent.invoke({"messages": [{"role": "user", "content": QUESTION}]})
print(result["messages"][-1].text)
