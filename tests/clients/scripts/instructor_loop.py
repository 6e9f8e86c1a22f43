"""instructor: each turn is an object of one of three types."""

import instructor
from folder import INSTRUCTIONS, KEY, MODEL, QUESTION, URL, list_folder, read_file
from openai import OpenAI
from pydantic import BaseModel


class Step(BaseModel):
    """The next step: "list" and a folder, "read" and a file, or "answer" and a word."""

    command: str


client = instructor.from_openai(
    OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0), mode=instructor.Mode.TOOLS
)
messages = [
    {"role": "system", "content": INSTRUCTIONS},
    {"role": "user", "content": QUESTION},
]
actions = {"list": lambda path: "\n".join(list_folder(path)), "read": read_file}
while True:
    step = client.chat.completions.create(
        model=MODEL, messages=messages, response_model=Step, max_retries=0
    )
    action, value = step.command.split()
    if action == "answer":
        break
    messages += [
        {"role": "assistant", "content": step.model_dump_json()},
        {"role": "user", "content": actions[action](value)},
    ]
print(value)
