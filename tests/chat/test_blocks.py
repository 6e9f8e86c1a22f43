"""A growing Markdown text is cut between blocks."""

import pytest

from mlxnode.chat.blocks import cut

TEXT = """# Title

A paragraph
of two lines.

- one
- two

  more of two

```python
x = 1

y = 2
```

| a | b |
|---|---|
| 1 | 2 |

The\u2028end.
"""


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("", ""),
        ("one line", ""),
        ("one\n\ntwo", ""),
        ("one\n\ntwo\n", "one\n\n"),
        ("```\na\n\nb\n", ""),
        ("- a\n\n- b\n", ""),
        ("- a\n\nend\n", "- a\n\n"),
        ("a\u2028b\n\nc\n", "a\u2028b\n\n"),
    ],
)
def test_cut_is_behind_the_complete_blocks(text, complete):
    assert text[: cut(text)] == complete


def test_pieces_of_a_text_are_the_blocks_however_it_grows():
    pending, blocks = "", []
    for character in TEXT:
        pending += character
        end = cut(pending)
        if end:
            blocks.append(pending[:end].strip())
            pending = pending[end:]
    whole = [block.strip() for block in [*blocks, pending]]
    assert "\n\n".join(whole) == TEXT.strip()
    assert whole[2].startswith("- one") and whole[2].endswith("more of two")
    assert whole[3].startswith("```") and whole[3].endswith("```")
