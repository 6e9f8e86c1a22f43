import pytest
from support.fake_hub import GATED, LARGE, FakeHub

from mlxnode.errors import ModelError
from mlxnode.models.pull.listing import ask_hub, choose
from mlxnode.models.pull.wanted import Wanted

TWO = {"m-Q4_K_M.gguf": 4 * 10**9, "m-Q8_0.gguf": 8 * 10**9, "mmproj-f16.gguf": 10**9}


def chosen(names, **wanted) -> list[str]:
    sizes = names if isinstance(names, dict) else dict.fromkeys(names, 1)
    return choose(Wanted("org/name", **wanted), sizes)


def reason(names, **wanted) -> str:
    with pytest.raises(ModelError) as error:
        chosen(names, **wanted)
    return str(error.value)


def test_choose_takes_one_format_of_the_weights():
    names = [
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "consolidated.safetensors",
    ]
    assert chosen([*names, "m.gguf", "README.md"]) == ["config.json", "model.safetensors"]


def test_choose_takes_the_gguf_file_that_is_named():
    assert chosen(TWO, tag="q4_k_m") == ["m-Q4_K_M.gguf"]
    assert chosen(TWO, include=("*Q8_0.gguf",)) == ["m-Q8_0.gguf"]
    assert chosen({"only.gguf": 1, "README.md": 1}) == ["only.gguf"]
    # The tag ends the name of one, and is a part of the other.
    assert chosen(["m-Q4_K.gguf", "m-Q4_K_M.gguf"], tag="Q4_K") == ["m-Q4_K.gguf"]


def test_choose_lists_the_gguf_files_if_it_is_not_clear_which():
    text = reason(TWO)
    assert "has 2 such GGUF files" in text and "m-Q8_0.gguf (8.00 GB)" in text
    assert "as in org/name/m-Q4_K_M.gguf" in text and "mmproj" not in text
    assert "has no GGUF file 'Q2_K'" in reason(TWO, tag="Q2_K")


def test_choose_names_a_place_with_converted_models():
    text = reason(["pytorch_model.bin", "config.json"])
    assert "neither *.safetensors nor *.gguf" in text
    assert "https://huggingface.co/models?author=mlx-community&search=name" in text


def test_choose_refuses_parts_of_gguf_and_patterns_without_files():
    parts = [f"m-0000{i}-of-00002.gguf" for i in (1, 2)]
    assert "one model in 2 parts, which is not supported" in reason(parts)
    assert "has no file *.x; it has a.json" in reason(["a.json"], include=("*.x",))


def test_ask_hub_counts_what_is_here(hub: FakeHub, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(LARGE))
    hub.add("org/name", folder)
    listing = ask_hub(Wanted("org/name"))
    assert (listing.size, listing.missing) == (LARGE + 2, LARGE + 2)
    assert not listing.is_complete
    (weights,) = [file for file in listing.files if file.sha256]
    weights.partial.parent.mkdir(parents=True)
    weights.partial.write_bytes(bytes(700))
    assert ask_hub(Wanted("org/name")).missing == LARGE + 2 - 700
    assert not (tmp_path / "hub/models--org--name/refs").exists()  # nothing is written


def test_ask_hub_says_in_one_line_why_there_is_nothing(hub: FakeHub, tmp_path):
    def reason(wanted: Wanted) -> str:
        with pytest.raises(ModelError) as error:
            ask_hub(wanted)
        text = str(error.value)
        assert "\n" not in text
        return text

    assert "no such repository, or it is private" in reason(Wanted("org/none"))
    repository = hub.add("org/name", tmp_path)
    assert "no revision 'v9'" in reason(Wanted("org/name", "v9"))
    repository.refuse = GATED
    assert "gated: accept its terms" in reason(Wanted("org/name"))
    repository.refuse = (502, "")
    assert "the hub answers 502" in reason(Wanted("org/name"))


def test_ask_hub_refuses_files_outside_the_folder(hub: FakeHub, tmp_path, monkeypatch):
    repository = hub.add("org/name", tmp_path)
    files = {"../../evil.safetensors": b"x"}
    monkeypatch.setattr(type(repository), "files", property(lambda _: files))
    with pytest.raises(ModelError, match="the hub names a file"):
        ask_hub(Wanted("org/name"))
