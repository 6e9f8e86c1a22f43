"""``/v1/batches`` of a real worker, through OpenAI's package; the test is who runs them."""

import httpx2 as httpx
import openai
import pytest
from support.worker_process import NARROW_KEY

from mlxnode.batches.rows import Result, Tokens
from mlxnode.batches.store import BatchStore
from mlxnode.messages.control import Wake

CHAT = "/v1/chat/completions"


@pytest.fixture
def store(folder, worker):
    store = BatchStore(folder)
    yield store
    store.close()


@pytest.fixture
def create(client, upload):
    def create(**fields):
        fields = {"endpoint": CHAT, "completion_window": "24h"} | fields
        if "input_file_id" not in fields:
            fields["input_file_id"] = upload().id
        return client.batches.create(**fields)

    return create


def test_a_batch_is_created_and_wakes_the_process_that_runs_it(worker, client, create):
    batch = create(metadata={"a": "b"})
    assert isinstance(worker.wait_for(Wake), Wake)
    assert (batch.status, batch.endpoint, batch.object) == ("validating", CHAT, "batch")
    assert batch.expires_at == batch.created_at + 86_400
    assert batch.metadata == {"a": "b"}
    assert batch.errors is None and batch.output_file_id is None
    assert batch.request_counts.model_dump() == {"total": 0, "completed": 0, "failed": 0}
    assert client.batches.retrieve(batch.id) == batch


def test_the_results_of_a_batch_are_downloaded(client, create, store):
    batch = create(output_expires_after={"anchor": "created_at", "seconds": 7200})
    store.begin(batch.id, total=2, model="tiny-chat")
    results = [Result(2, b"two", False, Tokens(5, 1, 3, 2)), Result(1, b"one", True)]
    store.append(batch.id, results)
    running = client.batches.retrieve(batch.id)
    assert running.status == "in_progress"
    assert (running.request_counts.completed, running.request_counts.failed) == (1, 1)
    store.finalize(batch.id)
    store.finish(batch.id, "completed")
    ended = client.batches.retrieve(batch.id)
    assert (ended.status, ended.model) == ("completed", "tiny-chat")
    assert client.files.content(ended.output_file_id).text == "two\n"
    assert client.files.content(ended.error_file_id).text == "one\n"
    assert ended.usage.input_tokens_details.cached_tokens == 1
    assert ended.usage.output_tokens_details.reasoning_tokens == 2
    assert ended.usage.total_tokens == 8
    output = client.files.retrieve(ended.output_file_id)
    assert output.purpose == "batch_output"
    assert output.expires_at == output.created_at + 7200


def test_the_errors_of_a_batch_name_lines(client, create, store):
    batch = create()
    store.fail(batch.id, [("invalid_json_line", "This line is no JSON.", 3, None)])
    failed = client.batches.retrieve(batch.id)
    [error] = failed.errors.data
    assert failed.status == "failed" and failed.errors.object == "list"
    assert (error.code, error.line, error.param) == ("invalid_json_line", 3, None)


def test_a_batch_is_cancelled(worker, client, create, store):
    batch = create()
    worker.wait_for(Wake)
    assert client.batches.cancel(batch.id).status == "cancelling"
    worker.wait_for(Wake)
    assert client.batches.cancel(batch.id).status == "cancelling"
    store.finish(batch.id, "cancelled")
    assert client.batches.cancel(batch.id).status == "cancelled"
    other = create()
    store.fail(other.id, [])
    with pytest.raises(openai.BadRequestError, match="status 'failed'"):
        client.batches.cancel(other.id)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"later": 1}'])
def test_a_batch_is_cancelled_with_any_object_and_without_one(worker, create, body):
    url = f"{worker.url}/v1/batches/{create().id}/cancel"
    headers = worker.headers | {"content-type": "application/json"}
    answer = httpx.post(url, content=body, headers=headers)
    assert answer.status_code == 200 and answer.json()["status"] == "cancelling", answer.text


def test_a_page_of_a_foreign_origin_cannot_cancel_a_batch(worker, create, store):
    batch = create()
    for headers in ({}, {"content-type": "text/plain"}):
        answer = httpx.post(
            f"{worker.url}/v1/batches/{batch.id}/cancel",
            headers=worker.headers | headers | {"origin": "https://evil.example"},
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "unsupported_content_type"
    assert store.find(batch.id).status == "validating"


def test_the_input_of_an_open_batch_is_not_deleted(client, create):
    batch = create()
    with pytest.raises(openai.BadRequestError, match=batch.id) as refused:
        client.files.delete(batch.input_file_id)
    assert refused.value.code == "file_in_use"


def test_batches_are_listed_in_pages(client, create):
    ids = [create().id for _ in range(5)][::-1]
    assert [batch.id for batch in client.batches.list()][:5] == ids
    page = client.batches.list(limit=2)
    assert [batch.id for batch in page.data] == ids[:2] and page.has_more
    after = client.batches.list(limit=2, after=ids[1])
    assert [batch.id for batch in after.data] == ids[2:4]
    for wrong in ({"limit": 0}, {"limit": 101}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.batches.list(**wrong)
        assert refused.value.param == "limit"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.batches.list(after="batch_none")
    assert unknown.value.param == "after"


def test_a_key_has_a_number_of_open_batches(create):
    for _ in range(5):
        create()
    with pytest.raises(openai.BadRequestError, match="5 batches") as refused:
        create()
    assert refused.value.code == "too_many_batches"


def test_a_key_finds_only_its_own_batches(worker, create, upload):
    batch = create()
    other = worker.client(api_key=NARROW_KEY)
    assert list(other.batches.list()) == []
    for ask in (other.batches.retrieve, other.batches.cancel):
        with pytest.raises(openai.NotFoundError, match="No batch found with id") as unknown:
            ask(batch.id)
        assert unknown.value.code == "batch_not_found"
    with pytest.raises(openai.NotFoundError, match="No such File object") as unknown:
        other.batches.create(
            input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"
        )
    assert unknown.value.param == "input_file_id"


def test_a_file_of_another_purpose_is_no_input(create, upload):
    with pytest.raises(openai.BadRequestError, match="not 'batch'"):
        create(input_file_id=upload(purpose="user_data").id)


@pytest.mark.parametrize(("window", "seconds"), [("1m", 60), ("90m", 5400), ("7d", 604_800)])
def test_a_batch_has_a_window_of_its_own(create, window, seconds):
    batch = create(completion_window=window)
    assert batch.completion_window == window
    assert batch.expires_at == batch.created_at + seconds


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": "/v1/models"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"input_file_id": ""}, "input_file_id"),
        ({"input_file_id": 5}, "input_file_id"),
        ({"completion_window": "1w"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"completion_window": "24h\n"}, "completion_window"),
        ({"completion_window": "31d"}, "completion_window"),
        ({"metadata": {"a": 5}}, "metadata.a"),
        ({"metadata": {"a" * 65: "b"}}, "metadata"),
        ({"metadata": {"a": "b" * 513}}, "metadata.a"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at"}}, "output_expires_after.seconds"),
        (
            {"output_expires_after": {"anchor": "x", "seconds": 3600}},
            "output_expires_after.anchor",
        ),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            "output_expires_after.seconds",
        ),
    ],
)
def test_a_wrong_field_is_named(worker, fields, param):
    body = {"input_file_id": "file-x", "endpoint": CHAT, "completion_window": "24h"} | fields
    answer = httpx.post(f"{worker.url}/v1/batches", json=body, headers=worker.headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(param)


def test_a_disk_that_fails_is_told_and_disturbs_nothing_else(
    start_worker, served_models, tmp_path
):
    """The folder is a file: no user can write there, not even root."""
    (tmp_path / "batches").touch()
    server = {"batches": {"folder": str(tmp_path / "batches")}}
    with start_worker(served_models, {}, server) as worker:
        worker.connect_engine()
        client = worker.client()
        for ask in (client.files.list, client.batches.list):
            with pytest.raises(openai.InternalServerError) as failed:
                ask()
            assert failed.value.status_code == 503
        worker.engine.answer = "Yes."
        assert client.models.list().data
