"""The command: its list, its report, its exit codes."""

import pytest
from support import tiny

from mlxnode import cli
from mlxnode.doctor import examine
from mlxnode.doctor.findings import Finding, Section

KEY = "sk-a-very-secret-key"


@pytest.fixture
def config(tmp_path):
    folder = tiny.make_chat_model(tmp_path / "tiny")
    file = tmp_path / "config.toml"
    file.write_text(
        f'[api]\naddress = "127.0.0.1:0"\napi_key = "{KEY}"\n'
        f'[api.models.tiny]\npath = "{folder}"\ntype = "chat"\n'
    )
    return file


@pytest.fixture
def measured(monkeypatch):
    """The measurements are found at once; their names in order."""
    names: list[str] = []

    def probe(name: str, **options: object) -> Section:
        names.append(name)
        return Section(name, [Finding(name, "ok", f"at /Users/someone/{name}")])

    monkeypatch.setattr(examine, "run_probe", probe)
    monkeypatch.setattr(examine.speed, "import_times", lambda: probe("imports"))
    monkeypatch.setattr(examine.metal_tests, "metal_tests", lambda: probe("tests"))
    return names


@pytest.mark.slow
def test_doctor_lists_checks_of_this_machine(config, capsys):
    assert cli.main(["doctor", "--config", str(config)]) == 0
    text = capsys.readouterr().out
    for name in ("system", "Python", "model tiny", "address", "descriptors", "device"):
        assert f"  {name}: " in text
    assert KEY not in text and "FAIL" not in text


def test_doctor_fails_with_the_configuration(config, measured, capsys):
    config.write_text("[api]\nadress = 1\n")
    assert cli.main(["doctor", "--config", str(config)]) == 1
    assert "did you mean address?" in capsys.readouterr().out
    assert measured == ["device"]  # what can be checked without it


def test_doctor_writes_a_report_without_names_or_keys(config, measured, tmp_path, capsys):
    file = tmp_path / "folder" / "report.md"
    assert cli.main(["doctor", "--config", str(config), "--report", str(file)]) == 0
    text = file.read_text()
    assert text.startswith("# mlxnode report, ")
    assert measured[0] == "device" and measured[-1] == "tests"
    assert measured.count("float32_products") == 3
    assert {"kernel_variants", "bandwidth", "demo_model", "imports"} <= set(measured)
    assert "someone" not in text and KEY not in text
    assert str(file) in capsys.readouterr().err


def test_doctor_refuses_a_report_that_cannot_be_written(config, measured, tmp_path, capsys):
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "report.md"
    assert cli.main(["doctor", "--config", str(config), "--report", str(target)]) == 1
    assert f"--report {target}: cannot be written" in capsys.readouterr().err
    assert measured == []


@pytest.mark.long
def test_metal_tests_of_a_clone_and_of_an_installation(tmp_path):
    tests = examine.metal_tests.metal_tests
    assert tests(tmp_path).findings[0].status == "info"
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "conftest.py").write_text(
        "def pytest_configure(config):\n"
        "    config.addinivalue_line('markers', 'metal: needs a GPU')\n"
    )
    (folder / "test_a.py").write_text(
        "import os, pytest\n"
        "@pytest.mark.metal\n"
        "def test_a(): assert os.environ['MLX_ENABLE_TF32'] == '0'\n"
        "def test_b(): assert False\n"
    )
    section = tests(tmp_path)
    assert section.findings[0].status == "ok" and "1 passed" in section.findings[0].text
    (folder / "test_b.py").write_text(
        "import pytest\n@pytest.mark.metal\ndef test_c(): assert False, 'no GPU'\n"
    )
    section = tests(tmp_path)
    assert section.findings[0].status == "fail" and "no GPU" in section.log
