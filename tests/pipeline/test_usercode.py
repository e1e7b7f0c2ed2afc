"""User code: read by its imports, loaded from source, and refused in one line."""

from __future__ import annotations

import inspect
import linecache
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import pipeline
from pipeline.problem import usercode
from pipeline.problem.usercode import UserCode, UserCodeError, attribute, load, read


def write(folder: Path, **sources: str) -> Path:
    """Files from names such as sub__mod (sub/mod.py); returns model.py."""
    for name, source in sources.items():
        file = folder / (name.replace("__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return folder / "model.py"


def test_relative_imports_are_followed(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        model="from .layers import scale\nfrom . import shapes\ndef make(): "
        "return scale * shapes.sides\n",
        layers="from .parts.deep import value\nscale = 2 * value\n",
        shapes="sides = 3\n",
        parts__deep="from ..shapes import sides\nfrom .near import one\nvalue = sides + one\n",
        parts__near="one = 1\n",
        unused="raise RuntimeError\n",
    )
    code = read(str(file))
    assert code.entry == "model.py"
    assert list(code.files) == [
        "layers.py",
        "model.py",
        "parts/deep.py",
        "parts/near.py",
        "shapes.py",
    ]
    assert attribute(code, "make")() == 24


def test_packages_beside_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        model="def make():\n    from .nets import build, wide\n    return build() + wide.k\n",
        nets__narrow="def build(): return 1\n",
        nets__wide="k = 2\n",
    )
    (tmp_path / "nets/__init__.py").write_text("from .narrow import build\n")
    code = read(str(file))
    assert set(code.files) == {"model.py", "nets/__init__.py", "nets/narrow.py", "nets/wide.py"}
    assert attribute(code, "make")() == 3


def test_names_of_the_folder_itself(tmp_path: Path) -> None:
    file = write(tmp_path, model="from . import K\ndef make(): return K\n")
    (tmp_path / "__init__.py").write_text("K = 7\n")
    assert attribute(read(str(file)), "make")() == 7


def test_loading_needs_no_file_and_leaves_the_path_alone(tmp_path: Path) -> None:
    file = write(tmp_path, model="from .a import f\nclass Net: pass\n", a="def f(): return 1\n")
    code = read(str(file))
    for path in tmp_path.iterdir():
        path.unlink()
    before = list(sys.path)
    module = load(code)
    assert sys.path == before
    assert module is load(code)
    assert module.__name__ == f"_lossatlas_user_{code.digest[:12]}.model"
    assert pickle.loads(pickle.dumps(module.Net)) is module.Net


def test_a_pickled_class_resolves_in_another_process(tmp_path: Path) -> None:
    file = write(tmp_path, model="class Net:\n    def __init__(self): self.k = 4\n")
    code = read(str(file))
    file.unlink()
    parcel = tmp_path / "parcel"
    parcel.write_bytes(pickle.dumps((code, pickle.dumps(load(code).Net()))))
    program = f"""
import pickle
from pipeline.problem import usercode
code, inner = pickle.load(open({str(parcel)!r}, "rb"))
usercode.load(code)
print(pickle.loads(inner).k)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(pipeline.__file__).parents[1],
    )
    assert done.stdout.strip() == "4", done.stderr


def test_tracebacks_show_the_source(tmp_path: Path) -> None:
    file = write(tmp_path, model="def f():\n    return 1 / 0  # here\n")
    code = read(str(file))
    file.unlink()
    function = attribute(code, "f")
    with pytest.raises(ZeroDivisionError) as caught:
        function()
    linecache.checkcache()
    assert "return 1 / 0  # here" in "".join(traceback.format_exception(caught.value))
    assert usercode.place(caught.value) == "model.py line 2"
    assert usercode.place(ValueError()) is None
    assert "# here" in inspect.getsource(function)


def test_a_users_pipeline_and_ours_do_not_meet(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        model="from .pipeline import K\nimport pipeline\ndef make(): return K, pipeline.__file__\n",
        pipeline="K = 'theirs'\n",
    )
    theirs, ours = attribute(read(str(file)), "make")()
    assert theirs == "theirs"
    assert ours == pipeline.__file__


def test_the_digest_tells_names_and_sources_apart(tmp_path: Path) -> None:
    digests = set()
    for folder, sources in {
        "a": {"model": "from . import x\n", "x": "y = 1\n"},
        "b": {"model": "from . import x\n", "x": "y = 2\n"},
        "c": {"model": "from . import z\n", "z": "y = 1\n"},
    }.items():
        digests.add(read(str(write(tmp_path / folder, **sources))).digest)
    assert len(digests) == 3
    again = write(tmp_path / "d", model="from . import x\n", x="y = 1\n")
    assert read(str(again)).digest in digests


def test_the_digest_knows_where_each_name_and_source_ends(tmp_path: Path) -> None:
    """Names and sources, one after the other, are the same text here."""
    model, texts, digests = "from . import x, y\n", set(), set()
    for folder, x, y in (("a", "# ", "#y.py\nb = 2\n"), ("b", "# y.py#", "\nb = 2\n")):
        code = read(str(write(tmp_path / folder, model=model, x=x, y=y)))
        texts.add("".join(part for item in code.files.items() for part in item))
        digests.add(code.digest)
    assert (len(texts), len(digests)) == (1, 2)


def test_the_digest_tells_entries_and_kinds_of_modules_apart(tmp_path: Path) -> None:
    one = write(tmp_path / "a", model="from . import two\n", two="from . import model\n")
    two = one.with_name("two.py")
    assert read(str(one)).files == read(str(two)).files
    assert read(str(one)).digest != read(str(two)).digest
    module = write(tmp_path / "b", model="from . import x\n", x="y = 1\n")
    package = write(tmp_path / "c", model="from . import x\n")
    package.with_name("x").mkdir()
    package.with_name("x").joinpath("__init__.py").write_text("y = 1\n")
    assert read(str(module)).digest != read(str(package)).digest


@pytest.mark.parametrize("on_path", [False, True])
@pytest.mark.parametrize("line", ["import helpers_", "from helpers_ import f", "import helpers_.x"])
def test_an_absolute_import_of_a_sibling_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, on_path: bool
) -> None:
    if on_path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend("")
    file = write(tmp_path, model=f"x = 1\n{line}\n", helpers_="def f(): pass\n")
    with pytest.raises(UserCodeError, match=r"model.py line 2: .*from \. import helpers_"):
        read(str(file))


def test_an_installed_module_of_a_siblings_name_is_meant(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        model="import numpy, random, pipeline.errors\n",
        numpy="",
        random="",
        pipeline="",
    )
    assert list(read(str(file)).files) == ["model.py"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"model": "x = (\n"}, r"model.py: line 1: .*was never closed; wanted valid Python"),
        ({"model": "x = 1\nfrom .gone import f\n"}, r"model.py line 2: .*finds no .*gone.py"),
        ({"model": "from . import gone\n"}, r"model.py line 1: .* import gone finds no"),
        ({"model": "from .. import gone\n"}, r"line 1: from \.\. import reaches above"),
        ({"model": "from . import a\n", "a": "def f(:\n"}, r"a.py: line 1: invalid syntax"),
        ({"model": "x = '\0'\n"}, "null bytes"),
        ({"other": ""}, "model.py: no such file; wanted a Python file"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, sources: dict[str, str], message: str) -> None:
    with pytest.raises(UserCodeError, match=message) as caught:
        read(str(write(tmp_path, **sources)))
    assert "\n" not in str(caught.value)


def test_not_text_and_not_importable_names(tmp_path: Path) -> None:
    binary = tmp_path / "model.py"
    binary.write_bytes(b"x = '\xff\xfe'\n")
    with pytest.raises(UserCodeError, match="encoding declaration"):
        read(str(binary))
    with pytest.raises(UserCodeError, match=r"has a dot.*my_model\.py"):
        read(str(tmp_path / "my.model.py"))
    folder = tmp_path / "folder.d"
    folder.mkdir()
    (folder / "model.py").mkdir()
    with pytest.raises(UserCodeError, match="no such file"):
        read(str(folder / "model.py"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("raise ValueError('bad\\nluck')", r"model.py line 2: .* raised ValueError: bad luck;"),
        ("import surely_not_installed", "model.py line 2: .*No module named 'surely_not"),
        ("raise SystemExit(3)", "line 2: .*SystemExit: 3"),
        ("from .a import missing", "line 2: .*cannot import name 'missing'"),
    ],
)
def test_what_fails_while_imported(tmp_path: Path, line: str, message: str) -> None:
    code = read(str(write(tmp_path, model=f"from . import a\n{line}\n", a="x = 1\n")))
    finders = len(sys.meta_path)
    for _ in range(2):
        with pytest.raises(UserCodeError, match=message):
            load(code)
    assert len(sys.meta_path) == finders
    assert not [
        name for name in sys.modules if name.startswith(f"_lossatlas_user_{code.digest[:12]}")
    ]


def test_the_line_of_a_siblings_failure(tmp_path: Path) -> None:
    code = read(str(write(tmp_path, model="from . import a\n", a="\n\n1 / 0\n")))
    with pytest.raises(UserCodeError, match=r"^a.py line 3: "):
        load(code)
    broken = UserCode("model.py", {"model.py": "x = (\n"}, "f" * 64)
    with pytest.raises(UserCodeError, match=r"^model.py line 1: .*SyntaxError"):
        load(broken)


def test_names_that_are_not_there(tmp_path: Path) -> None:
    source = "def build(): pass\nclass Nets:\n    @staticmethod\n    def small(): return 1\nk = 3\n"
    code = read(str(write(tmp_path, model=source)))
    assert attribute(code, "Nets.small")() == 1
    with pytest.raises(UserCodeError, match=r"model.py has no biuld; .* Did you mean build\?"):
        attribute(code, "biuld")
    with pytest.raises(UserCodeError, match="It has build, Nets"):
        attribute(code, "qqq")
    with pytest.raises(UserCodeError, match=r"k of model.py is int; wanted a function"):
        attribute(code, "k")
