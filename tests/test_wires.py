"""Nothing that runs code when it is read goes over a wire or into a file.

No socket is TCP but those between servers, which CURVE keys guard (`tests/replication`).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("vllm_edit", "retriever", "weight_patchers", "benchmarks")
FILES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))

RUNS_CODE = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
PICKLES = {"recv_pyobj", "send_pyobj", "read_pickle", "to_pickle"}
BETWEEN_SERVERS = ("vllm_edit/replication/bus.py", "vllm_edit/settings.py")
FORBIDDEN_TEXTS = ("tcp://", "VLLM_ALLOW_INSECURE_SERIALIZATION", "VLLM_SERVER_DEV_MODE")


def faults(tree: ast.AST) -> Iterator[str]:
    """What in a module's source could read code from a wire or a file."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (f"import {n.name}" for n in names if _runs_code(n.name))
            case ast.ImportFrom(module=str(module)) if _runs_code(module):
                yield f"from {module} import"
            case ast.Attribute(attr=attr) if attr in PICKLES:
                yield attr
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")):
                if _keyword(node, "weights_only") is not True:
                    yield "torch.load without weights_only=True"
            case ast.keyword(arg="allow_pickle" | "trust_remote_code" as arg, value=value):
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield arg
            case ast.Constant(value=str(text)):
                yield from (word for word in FORBIDDEN_TEXTS if word in text)


def _runs_code(module: str) -> bool:
    return module.partition(".")[0] in RUNS_CODE


def _keyword(call: ast.Call, name: str) -> object:
    values = [k.value for k in call.keywords if k.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def test_no_module_reads_code() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {fault}"
        for path in FILES
        for fault in faults(ast.parse(path.read_text()))
    }
    assert len(FILES) > 50
    assert found == {f"{path}: tcp://" for path in BETWEEN_SERVERS}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.memory as m",
        "socket.recv_pyobj()",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "Model.from_pretrained(path, trust_remote_code=flag)",
        "socket.bind(f'tcp://{host}:5555')",
        "os.environ['VLLM_ALLOW_INSECURE_SERIALIZATION'] = '1'",
    ],
)
def test_what_reads_code_is_found(source: str) -> None:
    assert list(faults(ast.parse(source)))


def test_what_reads_data_is_not() -> None:
    source = "import json\ntorch.load(p, weights_only=True)\nnumpy.load(p, allow_pickle=False)"
    assert list(faults(ast.parse(source))) == []
