"""What a client prefers and takes."""

import pytest

from mlxnode.server.http.accepted import preferred_of, takes

TEXT, OPEN = "text/plain", "application/openmetrics-text"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ([], TEXT),
        (["*/*"], TEXT),
        ([PROMETHEUS], OPEN),
        (["text/html, application/xhtml+xml, */*;q=0.8"], TEXT),
        (["application/json"], TEXT),
        (["application/*"], OPEN),
        (["Text/Plain;q=0.9", "application/openmetrics-text; Q=0.8"], TEXT),
        (["application/openmetrics-text;q=x, text/plain;q=0.1"], TEXT),
        (["application/openmetrics-text;q=0"], TEXT),
        (["text/plain;q=0, */*"], OPEN),
        (["text/plain;q=0.1, text/*, application/*;q=0.5"], OPEN),
        ([";,,;q=1"], TEXT),
    ],
)
def test_preferred_is_what_has_the_largest_weight(accept, kind):
    assert preferred_of(accept, [TEXT, OPEN]) == kind


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ([], False),
        (["gzip"], True),
        (["deflate, GZIP;q=0.5"], True),
        (["gzip;q=0"], False),
        (["*"], True),
        (["*;q=1, gzip;q=0"], False),
        (["identity"], False),
    ],
)
def test_a_coding_is_taken_if_it_was_asked_for(headers, is_taken):
    assert takes(headers, "gzip") == is_taken
