"""The verdict before the download is that after the download."""

import pytest
from support import tiny
from support.fake_hub import GATED, FakeHub
from support.gguf_files import CASES, make_model, write_model

from mlxnode.config.tables import EngineConfig, ModelConfig
from mlxnode.engine.fit.served import weigh
from mlxnode.errors import ModelError
from mlxnode.models.complete import check_complete
from mlxnode.models.describe import describe
from mlxnode.models.files import ModelFiles, find_files
from mlxnode.models.pull.download import download
from mlxnode.models.pull.listing import ask_hub
from mlxnode.models.pull.preview import preview
from mlxnode.models.pull.wanted import Wanted

WANTED = Wanted("org/name")


def verdicts(hub: FakeHub, folder, **wanted) -> tuple[object, object]:
    """Before and after the download."""
    hub.add("org/name", folder)
    listing = ask_hub(Wanted("org/name", **wanted))
    with preview(listing) as served:
        before = weigh([served], EngineConfig())["org/name"]
    download(listing, lambda _: None)
    found = find_files(str(listing.path), listing.cache)
    model = ModelConfig(path=str(listing.path), type=served.type)
    after = weigh([describe("org/name", model, found)], EngineConfig())["org/name"]
    return before, after


@pytest.mark.parametrize("kind", ["chat", "embedding", "rerank"])
def test_preview_tells_what_the_whole_model_tells(hub: FakeHub, tmp_path, kind):
    make = {
        "chat": lambda folder: (folder.mkdir(), tiny.make_chat_model(folder, hidden=256))[1],
        "embedding": tiny.make_embedding_model,
        "rerank": tiny.make_cross_encoder,
    }[kind]
    folder = make(tmp_path / "model")
    before, after = verdicts(hub, folder)
    assert before == after and before.fits


def test_preview_of_a_gguf_file_fetches_its_header_alone(hub: FakeHub, tmp_path):
    case = next(iter(CASES.values()))
    model, config = make_model(case, tmp_path / "source")
    folder = tmp_path / "model"
    folder.mkdir()
    file = write_model(folder / "m.gguf", case, model, config, tmp_path / "source")
    with file.open("ab") as stream:
        stream.write(bytes(8 << 20))  # as if it were a large model
    before, after = verdicts(hub, folder)
    assert before == after and before.fits
    first, *_ = hub.ranges("m.gguf")
    assert first == f"bytes=0-{(1 << 20) - 1}"
    assert len(list((tmp_path / "cache" / "gguf").glob("m-*"))) == 1  # none of the preview


def test_preview_reads_headers_and_no_weights(hub: FakeHub, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    tiny.make_chat_model(folder, layers=8, hidden=256)
    size = (folder / "model.safetensors").stat().st_size
    hub.add("org/name", folder)
    with preview(ask_hub(WANTED)) as served:
        assert served.size_bytes == size > 4 * (1 << 17)
        inside = served.folder
    assert hub.ranges("model.safetensors") == [f"bytes=0-{(1 << 17) - 1}"]
    assert not inside.exists()


def test_preview_reads_a_header_that_is_longer_than_the_guess(hub, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    tiny.make_chat_model(folder)
    hub.add("org/name", folder)
    monkeypatch.setattr("mlxnode.models.pull.preview._GUESS", 100)
    with preview(ask_hub(WANTED)) as served:
        check_complete(ModelFiles(served.folder, served.weights))
    first, second = hub.ranges("model.safetensors")
    assert first == "bytes=0-99" and second.startswith("bytes=100-")


def test_preview_says_why_a_model_cannot_be_served(hub: FakeHub, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    tiny.make_chat_model(folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"nobody_knows"'))
    hub.add("org/name", folder)
    with (
        pytest.raises(ModelError, match="'nobody_knows' is none that mlx-lm knows"),
        preview(ask_hub(WANTED)),
    ):
        pass
    config.unlink()
    with (
        pytest.raises(ModelError, match=r"org/name/config\.json cannot be read"),
        preview(ask_hub(WANTED)),
    ):
        pass


def test_preview_of_a_file_that_is_no_gguf_file_says_so(hub: FakeHub, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "m.gguf").write_bytes(b"GGUF" + bytes(20_000))
    hub.add("org/name", folder)
    with (
        pytest.raises(ModelError, match=r"^org/name/m\.gguf: not a readable GGUF file"),
        preview(ask_hub(WANTED)),
    ):
        pass


def test_preview_of_a_hub_that_fails_says_so(hub: FakeHub, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    tiny.make_chat_model(folder)
    repository = hub.add("org/name", folder)
    listing = ask_hub(WANTED)
    repository.refuse = GATED
    with pytest.raises(ModelError, match="the model is gated"), preview(listing):
        pass
