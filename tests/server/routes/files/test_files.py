"""``/v1/files`` of a real worker, through OpenAI's package and by hand."""

import httpx2 as httpx
import openai
import pytest
from support.uploads import BOUNDARY, FILE, PURPOSE, form, names, post
from support.worker_process import NARROW_KEY


def test_a_file_makes_a_round_trip(client, upload):
    file = upload(b'{"a": 1}\n', "päth/ünïcode \u2603.jsonl")
    assert (file.filename, file.bytes, file.purpose) == ("ünïcode ☃.jsonl", 9, "batch")
    assert file.object == "file" and file.status == "processed"
    assert file.expires_at == file.created_at + 30 * 86_400
    assert client.files.retrieve(file.id) == file
    content = client.files.content(file.id)
    assert content.read() == b'{"a": 1}\n'
    assert content.response.headers["content-type"] == "application/octet-stream"
    assert (
        "filename*=UTF-8''%C3%BCn%C3%AFcode" in content.response.headers["content-disposition"]
    )
    deleted = client.files.delete(file.id)
    assert deleted.deleted and deleted.id == file.id
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.files.retrieve(file.id)


@pytest.mark.parametrize(
    "purpose", ["assistants", "batch", "evals", "fine-tune", "user_data", "vision"]
)
def test_every_purpose_of_openai_is_kept(client, upload, purpose):
    assert upload(purpose=purpose).purpose == purpose
    assert [file.purpose for file in client.files.list(purpose=purpose)] == [purpose]
    assert list(client.files.list(purpose="other")) == []


def test_an_empty_file_is_a_file(client, upload):
    file = upload(b"")
    assert file.bytes == 0
    assert client.files.content(file.id).read() == b""


def test_a_client_sets_when_a_file_expires(upload):
    file = upload(expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "other"}, "purpose"),
        ({"purpose": ""}, "purpose"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after[anchor]"),
        ({"expires_after": {"anchor": "created_at"}}, "expires_after[seconds]"),
        ({"expires_after": {"seconds": 3600}}, "expires_after[anchor]"),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 3599}},
            "expires_after[seconds]",
        ),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 2_592_001}},
            "expires_after[seconds]",
        ),
        ({"expires_after": {"anchor": "created_at", "seconds": "x"}}, "expires_after[seconds]"),
    ],
)
def test_a_wrong_field_is_named(upload, folder, fields, param):
    with pytest.raises(openai.BadRequestError) as refused:
        upload(**fields)
    assert refused.value.param == param
    assert names(folder) == set()


def test_files_are_listed_in_pages(client, upload):
    ids = [upload(name=f"{i}").id for i in range(5)]
    assert [file.id for file in client.files.list()] == ids[::-1]
    assert [file.id for file in client.files.list(limit=2)] == ids[::-1]  # over three pages
    assert [file.id for file in client.files.list(order="asc", after=ids[2])] == ids[3:]
    page = client.files.list(limit=2, order="asc")
    assert [file.id for file in page.data] == ids[:2] and page.has_more
    assert not client.files.list(limit=5).has_more
    for wrong in ({"limit": 0}, {"limit": 10_001}, {"order": "up"}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.files.list(**wrong)
        assert refused.value.param in wrong
    with pytest.raises(openai.NotFoundError) as unknown:
        client.files.list(after="file-none")
    assert unknown.value.param == "after"


def test_a_key_finds_only_its_own_files(worker, client, upload):
    file = upload()
    other = worker.client(api_key=NARROW_KEY)
    assert list(other.files.list()) == []
    for ask in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError) as unknown:
            ask(file.id)
        assert unknown.value.code == "file_not_found"
    assert client.files.content(file.id).read() == b"{}\n"


def test_head_tells_the_size_of_a_file(worker, upload):
    file = upload(b"x" * 1000)
    url = f"{worker.url}/v1/files/{file.id}/content"
    answer = httpx.head(url, headers=worker.headers)
    assert answer.status_code == 200 and answer.headers["content-length"] == "1000"
    assert answer.content == b""


@pytest.mark.parametrize("id", ["%2e%2e%2fbatches.sqlite", "file-", "x" * 300, "%00", "%ff"])
def test_an_id_is_no_path(worker, upload, id):
    upload()
    for path in (id, f"{id}/content"):
        answer = httpx.get(f"{worker.url}/v1/files/{path}", headers=worker.headers)
        assert answer.status_code == 404, answer.text


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a.jsonl", "a.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("C:\\\\dir\\\\a.txt", "a.txt"),
        ("", "upload"),
        ("..", ".."),
        ("/", "upload"),
        ("a\tb\x7f", "ab"),
        ("x" * 300, "x" * 255),
        ("a%0D%0ASet-Cookie: b", "a%0D%0ASet-Cookie: b"),
    ],
)
def test_a_file_name_is_only_a_name(worker, client, sent, kept):
    answer = post(worker, form((f'name="file"; filename="{sent}"', b"x"), PURPOSE))
    assert answer.status_code == 200, answer.text
    assert answer.json()["filename"] == kept
    content = client.files.content(answer.json()["id"])
    assert content.read() == b"x"
    assert "set-cookie" not in content.response.headers


def test_a_file_name_can_be_in_the_extended_form(worker):
    answer = post(worker, form(("name=\"file\"; filename*=utf-8''%C3%BC.txt", b"x"), PURPOSE))
    assert answer.json()["filename"] == "ü.txt"


def test_the_fields_may_stand_in_any_order_and_others_are_named(worker):
    for parts in ([FILE, PURPOSE], [PURPOSE, FILE]):
        answer = post(worker, form(*parts, ('name="note"', b"x" * 100_000)))
        assert answer.status_code == 200
        assert answer.headers["x-mlxnode-ignored"] == "note"


@pytest.mark.parametrize(
    ("body", "content_type", "problem"),
    [
        (form(PURPOSE), None, "'file'"),
        (form(FILE), None, "'purpose'"),
        (form(FILE, FILE, PURPOSE), None, "more than one file"),
        (form(FILE, PURPOSE, PURPOSE), None, "more than once"),
        (form(FILE, ('name="purpose"', b"x" * 5000)), None, "more than 1024 bytes"),
        (form(FILE, ('nam="x"', b"x"), PURPOSE), None, "no name"),
        (form(FILE, PURPOSE, end=False), None, "cut"),
        (form(FILE, PURPOSE)[:60], None, "cut"),
        (form(FILE, ('name="expires_after"', b"{}"), PURPOSE), None, "expires_after[anchor]"),
        (form(*[('name="x"', b"")] * 65, FILE), None, "more than 64 parts"),
        (b"", None, "cut"),
        (b"nonsense", None, "multipart/form-data"),
        (b"--b0und4ry\r\n" + b"X: y\r\n" * 5000, None, "multipart/form-data"),
        (form(FILE), "multipart/form-data", "boundary"),
        (form(FILE), "multipart/form-data; boundary=" + "x" * 300, "boundary"),
        (b'{"purpose": "batch"}', "application/json", "multipart/form-data"),
        (form(FILE), "", "multipart/form-data"),
    ],
)
def test_an_odd_form_is_refused_and_leaves_nothing(worker, folder, body, content_type, problem):
    usual = f"multipart/form-data; boundary={BOUNDARY}"
    answer = post(worker, body, usual if content_type is None else content_type)
    assert answer.status_code == 400, answer.text
    assert problem in answer.json()["error"]["message"]
    assert names(folder) == set()


def test_random_mutations_of_a_form_never_break_the_worker(worker, folder):
    """Each byte of a form is changed, removed or doubled: an answer, and no file is half."""
    whole = form(PURPOSE, FILE)
    with httpx.Client(headers=worker.headers) as http:
        for position in range(0, len(whole), 3):
            for middle in (b"", b"\r\n", b'"', b"\0", whole[position : position + 1] * 2):
                body = whole[:position] + middle + whole[position + 1 :]
                answer = http.post(
                    f"{worker.url}/v1/files",
                    content=body,
                    headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
                )
                assert answer.status_code in (200, 400), (body, answer.text)
    assert not [name for name in names(folder) if name.endswith(".part")]


def test_a_page_of_a_foreign_origin_cannot_upload(start_worker, served_models, tmp_path):
    server = {"batches": {"folder": str(tmp_path)}}
    with start_worker(served_models, {"require_auth": False}, server) as worker:
        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        url, body = f"{worker.url}/v1/files", form(FILE, PURPOSE)
        foreign = headers | {"origin": "https://evil.example"}
        refused = httpx.post(url, content=body, headers=foreign)
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "origin_not_allowed"
        assert httpx.post(url, content=body, headers=headers).status_code == 200


def test_a_node_without_batches_says_so(start_worker, served_models):
    with start_worker(served_models, {}, {"batches": {"enabled": False}}) as worker:
        client = worker.client()
        for ask in (client.files.list, client.batches.list):
            with pytest.raises(openai.NotFoundError) as off:
                ask()
            assert off.value.code == "batches_off"
