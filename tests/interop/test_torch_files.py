"""PyTorch's files: state dicts with every kind of architecture, `.pt2` archives, and what is refused before it runs."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save as save_tensors

from axiom_jax import nn as ours
from axiom_jax._errors import AxiomError, ModelError
from axiom_jax.interop.torch.archive import arithmetic
from axiom_jax.interop.torch.descriptor import FORMAT
from axiom_jax.interop.torch.export import quiet
from axiom_jax.interop.torch.reader import from_pytorch
from axiom_jax.model import Sequential

torch = pytest.importorskip("torch", reason="PyTorch is an extra")
from torch import nn  # noqa: E402

DESCRIPTOR = {
    "format": FORMAT,
    "layers": [{"type": "Conv2d", "padding": 1}, {"type": "BatchNorm2d"}, {"type": "ReLU"}, {"type": "Flatten"},
               {"type": "Linear"}],
}  # fmt: skip


def net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(60, 4))
    module[1].running_mean.normal_()
    module[1].running_var.uniform_(0.5, 2)
    return module.eval()


def sequential() -> Any:
    return Sequential(
        ours.Conv(2, 3, (3, 3), padding=((1, 1), (1, 1))), ours.BatchNorm(3), ours.relu, ours.Flatten(),
        ours.Dense(60, 4), input_shape=(5, 4, 2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict in three formats and an exported program, of `net(0)`."""
    where = tmp_path_factory.mktemp("torch")
    module = net()
    torch.save(module.state_dict(), where / "state.pt")
    torch.save({"epoch": 3, "state_dict": module.state_dict()}, where / "checkpoint.pth")
    torch.save(module.state_dict(), where / "old.pt", _use_new_zipfile_serialization=False)
    tensors = {name: np.ascontiguousarray(x.numpy()) for name, x in module.state_dict().items()}
    (where / "state.safetensors").write_bytes(save_tensors(tensors))
    free = ({0: torch.export.Dim.AUTO},)
    torch.export.save(torch.export.export(module, (torch.randn(2, 2, 5, 4),), dynamic_shapes=free), where / "net.pt2")
    return where


def compare(model: Any, channels_last: bool = False) -> None:
    for batch in (1, 5):
        x = torch.randn(batch, 2, 5, 4)
        given = x.numpy().transpose(0, 2, 3, 1) if channels_last else x.numpy()
        with torch.no_grad():
            np.testing.assert_allclose(jax.jit(model)(given), net()(x), atol=1e-5)


FILES = ["state.pt", "checkpoint.pth", "old.pt", "state.safetensors"]


@pytest.mark.parametrize("file", FILES)
def test_state_dicts_with_an_architecture(file: str, folder: Path):
    path = folder / file
    compare(from_pytorch(path, architecture=DESCRIPTOR))
    model = from_pytorch(path, architecture=sequential())  # our layers take channels-last images
    compare(model, channels_last=True)
    assert dict(model.source).keys() <= {"state dict", "safetensors"}
    assert len(dict(model.source).popitem()[1]) == 64


def test_state_dicts_with_a_module(folder: Path):
    other = net(1)
    compare(from_pytorch(folder / "state.pt", architecture=other, input_shape=(2, 5, 4)))
    assert not torch.equal(other[0].weight, net(0)[0].weight)  # the user's module is left as it was
    compare(from_pytorch(folder / "state.safetensors", architecture=lambda: net(1), input_shape=(2, 5, 4)))
    compare(from_pytorch(net().state_dict(), architecture=net(1), input_shape=(2, 5, 4)))


def test_state_dicts_with_a_function(folder: Path):
    def last_layer(params: Any, x: Any) -> Any:
        return x @ params["4.weight"].T + params["4.bias"]

    model = from_pytorch(folder / "state.pt", architecture=last_layer)
    x = np.ones((3, 60), np.float32)
    np.testing.assert_allclose(model(x), net()[4](torch.from_numpy(x)).detach(), atol=1e-5)


def test_half_precision_weights_become_float32_exactly(tmp_path: Path):
    from safetensors.torch import save_file

    layer = nn.Linear(3, 2).bfloat16()
    save_file(layer.state_dict(), tmp_path / "half.safetensors")
    torch.save(layer.state_dict(), tmp_path / "half.pt")
    skeleton = {"format": FORMAT, "layers": [{"type": "Linear"}]}
    for file in ("half.safetensors", "half.pt"):
        (params,) = from_pytorch(tmp_path / file, architecture=skeleton).params.values()
        assert np.array_equal(params["kernel"].T, layer.weight.float().detach())


def test_safetensors_keep_no_order(tmp_path: Path):
    tensors = {"head.weight": np.ones((3, 3), np.float32), "body.weight": np.zeros((3, 3), np.float32)}
    (tmp_path / "a.safetensors").write_bytes(save_tensors(tensors))
    layers = [{"type": "Linear", "name": "head"}, {"type": "Linear", "name": "body"}]
    model = from_pytorch(tmp_path / "a.safetensors", architecture={"format": FORMAT, "layers": layers})
    assert float(model.params["0_Dense"]["kernel"][0, 0]) == 1
    with pytest.raises(ModelError, match="order of the layers cannot be told"):
        from_pytorch(tmp_path / "a.safetensors", architecture=Sequential(ours.Dense(3, 3), ours.Dense(3, 3)))


def test_archives_of_exported_programs(folder: Path):
    model = from_pytorch(folder / "net.pt2")
    compare(model)
    assert model.name == "net"
    assert dict(model.source).keys() == {"pt2"}
    assert "4.weight" in model.params
    compare(from_pytorch(folder / "net.pt2", layout="NHWC"), channels_last=True)


@pytest.mark.slow
def test_archives_of_programs_with_sizes_and_constants(tmp_path: Path):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRU(4, 5, batch_first=True)
            self.register_buffer("places", torch.arange(3.0), persistent=False)

        def forward(self, x: Any) -> Any:
            y = self.cell(x)[0] + self.places[:, None]
            return {"y": y.reshape(y.shape[0] * 3, 5).reshape(-1, 3, 5) * torch.tensor([1.0, 2, 3, 4, 5])}

    module = Net().eval()
    with quiet():  # torch warns of what its own recurrent layers do
        program = torch.export.export(module, (torch.randn(2, 3, 4),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
        torch.export.save(program.run_decompositions(), tmp_path / "net.pt2")
    x = torch.randn(5, 3, 4)
    ours, theirs = from_pytorch(tmp_path / "net.pt2")(x.numpy())["y"], module(x)["y"].detach()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


# What is refused


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, parts: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in parts.items():
            archive.writestr(f"net/{name}", data)
    return path


def test_the_pickle_would_run(tmp_path: Path):
    torch.load(io.BytesIO(saved({"w": Evil(tmp_path / "trace")})), weights_only=False)
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("form", ["zip", "pickle", "nested", "module"])
def test_malicious_pickles_are_refused_and_do_not_run(form: str, tmp_path: Path):
    evil = Evil(tmp_path / "trace")
    content = {
        "zip": lambda: saved({"w": evil}),
        "pickle": lambda: pickle.dumps({"w": evil}),
        "nested": lambda: saved({"state_dict": OrderedDict(w=torch.ones(2), v=evil)}),
        "module": lambda: saved(nn.Linear(2, 2)),
    }[form]()
    (tmp_path / "evil.pt").write_bytes(content)
    with pytest.raises(ModelError, match="nothing of it was run"):
        from_pytorch(tmp_path / "evil.pt", architecture=DESCRIPTOR)
    assert not (tmp_path / "trace").exists()


def in_model(old: str, new: str) -> Callable[[dict[str, bytes], bytes], None]:
    def change(parts: dict[str, bytes], evil: bytes) -> None:
        text = parts["models/model.json"].decode()
        assert old in text
        parts["models/model.json"] = text.replace(old, new).encode()

    return change


def in_weights(**entries: Any) -> Callable[[dict[str, bytes], bytes], None]:
    def change(parts: dict[str, bytes], evil: bytes) -> None:
        table = json.loads(parts["data/weights/model_weights_config.json"])
        entry = next(iter(table["config"].values()))
        for key, value in entries.items():
            (entry if key in entry else entry["tensor_meta"])[key] = value
        parts["data/weights/model_weights_config.json"] = json.dumps(table).encode()
        if "use_pickle" in entries:
            parts["data/weights/" + entry["path_name"]] = evil

    return change


def with_part(name: str, content: bytes | None = None) -> Callable[[dict[str, bytes], bytes], None]:
    def change(parts: dict[str, bytes], evil: bytes) -> None:
        parts[name] = evil if content is None else content

    return change


SYMBOL = "Symbol('s"
CALL = "__import__('os').mkdir('trace') or Symbol('s"
EXPRESSION = '"expr_str": "Symbol'
HUGE = [{"as_int": 2**40}] * 4
BAD_ARCHIVES: dict[str, tuple[Callable[[dict[str, bytes], bytes], None], str]] = {
    "code as a size": (in_model(SYMBOL, CALL), "a size that is no arithmetic"),
    "attributes as a size": (in_model(SYMBOL, "().__class__.__base__ or Symbol('s"), "a size that is no arithmetic"),
    "a lambda as a size": (in_model(EXPRESSION, '"expr_str": "(lambda: 0)() + Symbol'), "a size that is no arithmetic"),
    "a power as a size": (in_model(EXPRESSION, '"expr_str": "9**9**9**9 + Symbol'), "a size that is no arithmetic"),
    "another function": (in_model("torch.ops.aten.relu.default", "torch.os.mkdir"), "an operator that is not ATen's"),
    "an extension": (in_model("torch.ops.aten.relu.default", "#evil:run"), "an operator that is not ATen's"),
    "a loaded library": (in_model("torch.ops.aten.relu.default", "torch.ops.load_library"), "not ATen's"),
    "an imported container": (in_model("builtins.dict", "collections.defaultdict"), "containers that are not"),
    "an enumeration": (in_model('\\"context\\": \\"[]\\"', '\\"context\\": {\\"__enum__\\": \\"os\\"}'), "containers"),
    "a pickled weight": (in_weights(use_pickle=True), "it holds a pickle"),
    "a path outside": (in_weights(path_name="../../weight_0"), "it holds a pickle"),
    "a huge weight": (in_weights(sizes=HUGE), "larger than its bytes"),
    "an expanded weight": (in_weights(sizes=HUGE, strides=[{"as_int": 0}] * 4), "larger than its bytes"),
    "a negative stride": (in_weights(strides=[{"as_int": -1}] * 4), "malformed"),
    "an offset": (in_weights(storage_offset={"as_int": 10**6}), "larger than its bytes"),
    "a huge empty weight": (with_part("data/weights/weight_0", b""), "larger than its bytes"),
    "no weights": (with_part("data/weights/model_weights_config.json", b'{"config": {"w": {}}}'), "malformed"),
    "a table that is a list": (with_part("data/weights/model_weights_config.json", b"[]"), "malformed"),
    "no program": (with_part("models/model.json", b"{}"), "malformed"),
    "a program that is no JSON": (with_part("models/model.json", b"\xff"), "malformed"),
    "a program without end": (with_part("models/model.json", b"[" * 100_000), "malformed"),
    "an unknown type": (in_model('"as_tensor"', '"as_custom_obj"'), "objects or control flow"),
    "an unknown operator": (in_model("aten.relu.default", "aten.rrrelu.default"), "damaged|no rule"),
    "a missing value": (in_model('"name": "input"', '"name": "inputs"'), "damaged|brought to JAX"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_bad_archives_are_refused_and_do_not_run(name: str, folder: Path, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    change, words = BAD_ARCHIVES[name]
    parts = members(folder / "net.pt2")
    change(parts, saved({"w": Evil(tmp_path / "trace")}))
    with pytest.raises(AxiomError, match=words):
        from_pytorch(write(tmp_path / "evil.pt2", parts))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("part", ["data/sample_inputs/model.pt", "data/constants/model.pt", "data/weights/model.pt",
                                  "extra/evil.pkl", "data/constants/custom_obj_0"])  # fmt: skip
def test_pickles_beside_the_program_are_left_out(part: str, folder: Path, tmp_path: Path):
    parts = members(folder / "net.pt2")
    parts[part] = saved({"w": Evil(tmp_path / "trace")})
    compare(from_pytorch(write(tmp_path / "net.pt2", parts)))
    assert not (tmp_path / "trace").exists()


def test_compressed_and_overlapping_archives_are_refused(folder: Path, tmp_path: Path):
    bomb = members(folder / "net.pt2") | {"data/weights/weight_0": bytes(2**22)}
    with pytest.raises(ModelError, match="members that are compressed"):
        from_pytorch(write(tmp_path / "bomb.pt2", bomb, zipfile.ZIP_DEFLATED))
    with pytest.raises(ModelError, match="members that are compressed"):
        from_pytorch(write(tmp_path / "bomb.pt", bomb, zipfile.ZIP_DEFLATED), architecture=DESCRIPTOR)
    with pytest.raises(ModelError, match="no archive of torch"):
        from_pytorch(write(tmp_path / "other.pt2", {"a": b"1"}))


@pytest.mark.parametrize("text", ["1 if 2 else 3", "open('a')", "Symbol(s1)", "Symbol('os.system')", "s1.is_integer",
                                  "Mul(2, evil)", "10**10", "[1]", "'a'", "Symbol('s1', **{})",
                                  "1" * 5000, 3, None])  # fmt: skip
def test_sizes_that_are_no_arithmetic(text: Any):
    assert not arithmetic(text)


@pytest.mark.parametrize("text", ["s1", "2*s1 + 1", "Max(1, FloorDiv(s1, 2))", "Eq(Mod(u0, 3), 0)", "-int_oo"])
def test_sizes_that_are_arithmetic(text: str):
    assert arithmetic(text)


def shared(rows: int) -> dict[str, Any]:
    """Many tensors over one storage: small in the file, large in memory."""
    return {f"{i}.weight": torch.ones(1).expand(rows, rows) for i in range(3)}


BAD_STATES: dict[str, Callable[[], Any]] = {
    "a tensor": lambda: torch.ones(3),
    "a list": lambda: [torch.ones(3)],
    "empty": lambda: {},
    "numbers": lambda: {"0.weight": 3.0},
    "numbered": lambda: {0: torch.ones(3)},
    "nested": lambda: {"a": {"b": {"0.weight": torch.ones(3)}}},
    "sparse": lambda: {"0.weight": torch.eye(3).to_sparse()},
    "complex": lambda: {"0.weight": torch.ones(3, 3, dtype=torch.complex64)},
    "too few": lambda: {"0.weight": torch.ones(3, 2, 3, 3)},
    "too many": lambda: {f"{i}.weight": torch.ones(3) for i in range(9)},
    "another shape": lambda: {**net().state_dict(), "4.weight": torch.ones(7, 7)},
    "another rank": lambda: {**net().state_dict(), "0.weight": torch.ones(7)},
    "not finite": lambda: {**net().state_dict(), "4.bias": torch.full((4,), float("nan"))},
    "beyond float32": lambda: {**net().state_dict(), "4.bias": torch.full((4,), 1e300, dtype=torch.float64)},
    "not float32": lambda: {**net().state_dict(), "4.bias": torch.full((4,), 0.1, dtype=torch.float64)},
    "an integer beyond int32": lambda: {**net().state_dict(), "1.num_batches_tracked": torch.tensor(2**40)},
    "another module": lambda: nn.LSTM(3, 4).state_dict(),
    "expanded": lambda: shared(30_000),
    "quantized": lambda: {"0.weight": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_STATES)
@pytest.mark.parametrize("architecture", ["descriptor", "sequential", "module"])
@pytest.mark.filterwarnings("ignore")  # torch's, while the bad file is written
def test_bad_state_dicts_are_refused(name: str, architecture: str, tmp_path: Path):
    path = tmp_path / "state.pt"
    path.write_bytes(saved(BAD_STATES[name]()))
    target = {"descriptor": lambda: DESCRIPTOR, "sequential": sequential, "module": net}[architecture]()
    with pytest.raises(AxiomError):
        from_pytorch(path, architecture=target, input_shape=None if architecture == "sequential" else (2, 5, 4))


def header(text: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + data


BAD_BYTES: dict[str, tuple[str, bytes]] = {
    "empty": ("a.pt", b""),
    "text": ("a.pt", b"hello, world" * 10),
    "half a zip": ("a.pt", b"PK\x03\x04" + bytes(40)),
    "empty pth": ("a.pth", b"\x80"),
    "empty pt2": ("a.pt2", b""),
    "text pt2": ("a.pt2", b"PK is no archive"),
    "empty safetensors": ("a.safetensors", b""),
    "no header": ("a.safetensors", struct.pack("<Q", 2**60)),
    "a header that is no JSON": ("a.safetensors", header(b"{]")),
    "a tensor beyond the file": (
        "a.safetensors", header(b'{"w":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}')
    ),
    "a shape that overflows": (
        "a.safetensors", header(b'{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}')
    ),
    "an unknown dtype": ("a.safetensors", header(b'{"w":{"dtype":"F4","shape":[1],"data_offsets":[0,4]}}', bytes(4))),
    "eight bits": ("a.safetensors", header(b'{"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}', bytes(4))),
    "no tensors": ("a.safetensors", header(b"{}")),
    "an unknown suffix": ("a.bin2", b"x"),
    "no suffix": ("a", b"x"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BYTES)
def test_bad_files_are_refused(name: str, tmp_path: Path):
    file, content = BAD_BYTES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        from_pytorch(tmp_path / file, architecture=DESCRIPTOR)
    assert caught.value.at
    assert caught.value.fix


@pytest.mark.parametrize("file", ["no.pt", "no.pt2", "no.json", "no.safetensors", "no\0.pt", "."])
def test_files_that_are_not_there(file: str, tmp_path: Path):
    with pytest.raises(ModelError):
        from_pytorch(f"{tmp_path}/{file}")


@pytest.mark.parametrize("architecture", [None, 3, "no.json", {"layers": 3}, lambda: 1 / 0, lambda: 3, nn.LSTM])
def test_architectures_that_are_none(architecture: Any, folder: Path):
    with pytest.raises(AxiomError):
        from_pytorch(folder / "state.pt", architecture=architecture, input_shape=(2, 5, 4))


def test_damaged_copies_never_raise_anything_else(folder: Path, tmp_path: Path):
    chance = np.random.default_rng(0)
    for file in ("state.pt", "old.pt", "state.safetensors", "net.pt2"):
        content = (folder / file).read_bytes()
        for _ in range(10):
            damaged = bytearray(content[: chance.integers(1, len(content))] if chance.random() < 0.3 else content)
            for place in chance.integers(0, len(damaged), 20):
                damaged[place] = chance.integers(0, 256)
            (tmp_path / file).write_bytes(bytes(damaged))
            try:
                from_pytorch(tmp_path / file, architecture=DESCRIPTOR)
            except AxiomError as error:
                assert error.what.endswith(".")


def test_without_torch_the_extra_is_named(folder: Path, monkeypatch: Any):
    """`import torch` fails in a fresh interpreter that is told so; descriptors and safetensors work there."""
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import axiom_jax as ax\n"
        f"architecture = {DESCRIPTOR!r}\n"
        f"print(ax.from_pytorch({str(folder / 'state.safetensors')!r}, architecture=architecture).name)\n"
        f"for file in ({str(folder / 'net.pt2')!r}, {str(folder / 'state.pt')!r}):\n"
        "    try:\n        ax.from_pytorch(file, architecture=architecture)\n"
        "    except ax.BackendUnavailable as error:\n        print(error.fix)\n"
        "try:\n    ax.to_pytorch(ax.Sequential(ax.nn.Dense(2, 1)))\n"
        "except ax.BackendUnavailable as error:\n    print(error.fix)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.splitlines() == ["state", *["pip install 'axiom-jax[torch]'"] * 3], result.stderr
