"""The page at ``/``: who gets it, the headers that guard it, its files and their size."""

import gzip
import re
from pathlib import Path

import httpx2 as httpx
import pytest

from mlxnode.server.page.files import assets

FOLDER = Path(__file__).parents[3] / "mlxnode" / "server" / "page"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
NAMES = sorted(assets())
PUBLIC = [name for name in NAMES if name != "index.html"]
LIMIT = 60_000  # bytes of all files, as they are in the tree


def get(worker, path="/", accept=BROWSER, method="GET", **headers):
    sent = {"accept": accept, "accept-encoding": "identity"} | headers
    return httpx.request(method, worker.url + path, headers=sent)


@pytest.mark.parametrize(
    "accept", [BROWSER, "text/html", "text/html;q=0.5, */*;q=0.1", "TEXT/HTML"]
)
def test_browsers_get_the_page_without_a_key(worker, accept):
    response = get(worker, accept=accept)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.content == (FOLDER / "index.html").read_bytes()
    assert {"Accept", "Accept-Encoding"} <= set(response.headers["vary"].split(", "))


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/json",
        "",
        "text/html;q=0",
        "text/html;q=x, */*",
        "text/*",
        ",;q",
        "application/json, text/html;q=0.9",
        "text/htmlx",
    ],
)
def test_others_get_json_as_ever(worker, accept):
    response = get(worker, accept=accept)
    assert response.json() == {
        "key_required": True,
        "has_admin_key": True,
        "name": "mlxnode",
        "documentation": "/openapi.json",
    }
    assert "Accept" in response.headers["vary"].split(", ")


def test_the_root_tells_what_an_open_node_needs(open_worker):
    root = httpx.get(open_worker.url).json()
    assert root["key_required"] is False


def test_rules_for_origins_keep_what_answers_vary_by(worker):
    response = get(worker, origin=worker.origin)
    assert response.headers["vary"] == "Accept, Accept-Encoding, Origin"


@pytest.mark.parametrize("name", PUBLIC)
def test_files_are_sent_with_their_type(worker, name):
    response = get(worker, f"/page/{name}", accept="*/*")
    assert response.status_code == 200
    assert response.content == (FOLDER / name).read_bytes()
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert response.headers["content-type"].startswith(kinds[Path(name).suffix])


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in PUBLIC)])
def test_every_file_is_guarded(worker, path):
    headers = get(worker, path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    own = {"script-src", "style-src", "connect-src", "img-src"}
    assert {name: policy.pop(name) for name in own} == dict.fromkeys(own, "'self'")
    nothing = {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert policy == dict.fromkeys(nothing, "'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == "no-cache"
    assert "set-cookie" not in headers


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
def test_files_are_compressed_for_those_who_ask(worker, path):
    plain = get(worker, path)
    with httpx.stream("GET", worker.url + path, headers={"accept": BROWSER}) as response:
        raw = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content and len(raw) < len(plain.content)
    assert response.headers["etag"] != plain.headers["etag"]
    refused = get(worker, path, **{"accept-encoding": "gzip;q=0, br"})
    assert "content-encoding" not in refused.headers


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_file_that_is_known_is_not_sent_again(worker, path, encoding):
    asked = {"accept-encoding": encoding}
    tag = get(worker, path, **asked).headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = get(worker, path, **asked, **{"if-none-match": known})
        assert again.status_code == 304 and again.content == b""
        assert again.headers["etag"] == tag
        assert "content-security-policy" in again.headers
    assert get(worker, path, **asked, **{"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
def test_head_has_the_same_headers(worker, path):
    names = ("content-type", "content-length", "etag", "content-security-policy")
    full, head = get(worker, path), get(worker, path, method="HEAD")
    assert head.status_code == 200 and head.content == b""
    assert [head.headers[name] for name in names] == [full.headers[name] for name in names]


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "index.html", "files.py", "__init__.py", "%2e%2e%2fapp.py", "main.js%00"],
)
def test_no_other_name_is_a_file(worker, name):
    response = get(worker, f"/page/{name}")
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_node_can_have_no_page(start_worker, served_models):
    with start_worker(served_models, {}, {"page": False}) as worker:
        worker.connect_engine()
        assert get(worker).json()["name"] == "mlxnode"
        assert get(worker, "/page/main.js").status_code == 404


def test_the_page_is_small():
    assert sum(len(asset.body) for asset in assets().values()) <= LIMIT


def test_the_page_asks_no_other_host():
    for name in NAMES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        found = set(re.findall(r"https?://[\w.]+", text))
        # SVG's name, which nobody fetches.
        assert found <= {"http://www.w3.org"}, name


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith((".js", ".html"))])
def test_the_page_makes_no_markup_of_text(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    dangerous = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|DOMParser|"
        r"createContextualFragment|\beval\b|new Function|localStorage|document\.cookie|"
        r"setTimeout\(['\"`]|javascript:|<style|\sstyle=|\son\w+=[\"']|<script>"
    )
    assert re.findall(dangerous, text) == []


def test_the_files_name_each_other():
    """Each file is asked for, and what is asked for is there."""
    named = set(re.findall(r'"page/([\w.]+)"', (FOLDER / "index.html").read_text()))
    for name in NAMES:
        if name.endswith(".js"):
            named |= set(re.findall(r'"\./([\w.]+)"', (FOLDER / name).read_text()))
    assert named == set(PUBLIC)


def test_elements_that_scripts_name_are_in_the_page():
    """An id that a script reads is in the HTML, or made by a script."""
    scripts = {name: (FOLDER / name).read_text() for name in NAMES if name.endswith(".js")}
    known = set(re.findall(r'\bid="([\w-]+)"', (FOLDER / "index.html").read_text()))
    known |= {f"tab-{tab}" for tab in known}
    made = set(
        re.findall(r'id: "([\w-]+)"|, "([\w-]+-rows|known-keys)"', "".join(scripts.values()))
    )
    known |= {one for pair in made for one in pair if one}
    for name, text in scripts.items():
        assert set(re.findall(r'(?:\$|\bon)\("([\w-]+)"', text)) <= known, name
