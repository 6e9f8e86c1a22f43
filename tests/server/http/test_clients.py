"""HTTP clients as they are, with their own defaults."""

import gzip
import json
import shutil
import subprocess
import urllib.request

import pytest
from support.contract import CHAT, CHATS

TEXT = json.dumps(CHAT)
LARGE = json.dumps(CHAT | {"metadata": {}, "padding": "x" * 900_000})
# Each prints the status and the text of the answer. A body of an unknown length is sent in
# chunks; Node opens a connection of its own for each process.
FETCH = """
const [url, key, text] = process.argv.slice(1);
const ask = async (options) => {
  const answer = await fetch(url, { method: "POST", ...options });
  console.log(answer.status, (await answer.json()).choices[0].message.content);
};
const headers = { "x-api-key": key };
await ask({ headers, body: text });
await ask({ headers, body: new Blob([text]) });
await ask({ headers, body: new URLSearchParams([]) + text });
await ask({ headers, body: new Blob([text]).stream(), duplex: "half" });
const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
headers["content-encoding"] = "gzip";
await ask({ headers, body: packed, duplex: "half" });
"""


def curl(worker, *arguments: str, stdin: bytes | None = None) -> tuple[str, str]:
    """The version of HTTP with the status, and the answer."""
    key = ("-H", f"Authorization: Bearer {worker.key}")
    command = ["curl", "-sS", "-w", "\n%{http_version} %{http_code}", *key, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=30, check=True)
    answer, _, status = done.stdout.decode().rpartition("\n")
    return status, answer


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (("-d", TEXT), None),
        (("-d", "@-"), TEXT.encode()),
        (("--data-binary", "@-"), json.dumps(CHAT, indent=2).encode()),
        (("-H", "Content-Type:", "-d", TEXT), None),
        (("--json", TEXT), None),
        (("--compressed", "-d", TEXT), None),
        (("--http2", "-d", TEXT), None),
        (("-X", "POST", "-T", "-"), TEXT.encode()),
        (("-H", "Transfer-Encoding: chunked", "-d", "@-"), TEXT.encode()),
        (("-H", "Expect: 100-continue", "-d", "@-"), TEXT.encode()),
        (("--data-binary", "@-"), LARGE.encode()),
        (("-H", "Expect: 100-continue", "--data-binary", "@-"), LARGE.encode()),
        (
            ("-H", "Content-Encoding: gzip", "--data-binary", "@-"),
            gzip.compress(LARGE.encode()),
        ),
        (("--data-binary", "@-"), b"\xef\xbb\xbf" + TEXT.encode()),
        (("-H", "X-Long: " + "x" * 4000, "-d", TEXT), None),
        (("-H", "openai-organization: a", "-H", "Cookie: a=b; c=d", "-d", TEXT), None),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_curl(worker, arguments, stdin):
    status, answer = curl(worker, worker.url + CHATS, *arguments, stdin=stdin)
    assert status == "1.1 200", answer
    assert json.loads(answer)["choices"][0]["message"]["content"] == "Hello!"


def test_curl_through_a_proxy_s_form_of_the_url(worker):
    """With a proxy, a client sends the whole URL as the target of the request."""
    target = f"http://node.example{CHATS}"
    status, answer = curl(worker, "--proxy", worker.url, target, "-d", TEXT)
    assert status == "1.1 200" and "Hello!" in answer


def test_curl_with_the_key_as_a_password_is_told_of_the_header(worker):
    command = ["curl", "-sS", "-u", f"user:{worker.key}", f"{worker.url}/v1/models"]
    answer = subprocess.run(command, capture_output=True, timeout=30, check=True).stdout
    assert "Authorization: Bearer" in json.loads(answer)["error"]["message"]
    assert worker.key not in answer.decode()


def test_urllib(worker):
    request = urllib.request.Request(worker.url + CHATS, TEXT.encode(), worker.headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert request.get_header("Content-type") == "application/x-www-form-urlencoded"
        assert json.load(answer)["choices"][0]["message"]["content"] == "Hello!"


def test_fetch_of_node(worker):
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    command = ["node", "--input-type=module", "-e", FETCH, worker.url + CHATS, worker.key, TEXT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["200 Hello!"] * 5, done.stderr
