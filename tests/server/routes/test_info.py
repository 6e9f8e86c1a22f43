import httpx2 as httpx
import openai
import pytest


def test_models_list(worker):
    models = worker.client().models.list().data
    assert [model.id for model in models] == ["tiny-chat", "org/tiny-text", "tiny-embedding"]
    assert {model.created for model in models} == {1_700_000_000}
    assert {model.object for model in models} == {"model"}


@pytest.mark.parametrize("path", ["org/tiny-text", "org%2Ftiny-text"])
def test_model_with_a_slash(worker, path):
    response = httpx.get(f"{worker.url}/v1/models/{path}", headers=worker.headers)
    assert response.json() == {
        "id": "org/tiny-text",
        "created": 1_700_000_000,
        "type": "completion",
        "status": "loaded",
        "aliases": [],
        "pinned": False,
        "size_bytes": 1,
        "context_length": 1024,
        "max_model_len": 1024,
        "owned_by": "mlxnode",
        "object": "model",
    }


def test_model_through_the_sdk(worker):
    assert worker.client().models.retrieve("org/tiny-text").id == "org/tiny-text"
    with pytest.raises(openai.NotFoundError) as caught:
        worker.client().models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


def test_health_needs_no_key(worker):
    response = httpx.get(f"{worker.url}/health")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "engine": "ok", "failed_models": []}


def test_health_tells_that_the_engine_is_gone(worker):
    worker.engine.disconnect()
    try:
        response = httpx.get(f"{worker.url}/health")
        while response.status_code == 200:  # until the end of the pipe has been seen
            response = httpx.get(f"{worker.url}/health")
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert response.json()["error"]["type"] == "service_unavailable_error"
        with pytest.raises(openai.InternalServerError) as caught:
            worker.client().completions.create(model="tiny-chat", prompt="x")
        assert caught.value.code == "server_is_overloaded"
        assert worker.client().models.list().data
    finally:
        worker.connect_engine()
    assert httpx.get(f"{worker.url}/health").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/v1/models"])
def test_head(worker, path):
    response = httpx.head(f"{worker.url}{path}", headers=worker.headers)
    assert response.status_code == 200 and response.content == b""
