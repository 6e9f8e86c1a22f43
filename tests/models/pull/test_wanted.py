import pytest

from mlxnode.errors import ModelError
from mlxnode.models.pull.wanted import Wanted, parse_wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("org/name", Wanted("org/name")),
        ("https://huggingface.co/org/name", Wanted("org/name")),
        ("hf.co/org/name/", Wanted("org/name")),
        ("https://huggingface.co/org/name/tree/v1", Wanted("org/name", "v1")),
        (
            "https://huggingface.co/org/name/blob/main/a.gguf",
            Wanted("org/name", "main", ("a.gguf",)),
        ),
        ("org/name:Q4_K_M", Wanted("org/name", tag="Q4_K_M")),
        ("org/name/a.Q8_0.gguf", Wanted("org/name", None, ("a.Q8_0.gguf",))),
        ("org/name/inner/a.gguf", Wanted("org/name", None, ("inner/a.gguf",))),
    ],
)
def test_parse_wanted_reads_names_and_addresses(text, wanted):
    assert parse_wanted(text) == wanted


def test_parse_wanted_the_option_is_stronger_than_the_address():
    found = parse_wanted("hf.co/org/name/tree/v1", "v2", ("*.json",))
    assert found == Wanted("org/name", "v2", ("*.json",))


@pytest.mark.parametrize("text", ["name", "", "org/", "a/b/c", "org/name:", "../../x", "o g/n"])
def test_parse_wanted_refuses_other_texts_and_says_the_forms(text):
    with pytest.raises(ModelError, match='no repository of the hub; expected "org/name"'):
        parse_wanted(text)


def test_parse_wanted_refuses_files_that_are_named_twice():
    with pytest.raises(ModelError, match="not by both"):
        parse_wanted("org/name:Q4", include=("*.gguf",))
