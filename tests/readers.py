"""The readers of whatever a user, or a stranger, gives; and what each is given to choke on."""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from orchestrator.errors import BadInputError
from orchestrator.gates.language import gate_texts
from orchestrator.inputs.adapters import ADAPTER_CONFIG, _base
from orchestrator.inputs.checkpoints import read_folder
from orchestrator.inputs.dataset_files import rows_of_path
from orchestrator.inputs.gguf_files import read_gguf
from orchestrator.inputs.prompts import load_prompts
from orchestrator.inputs.weight_files import read_header
from orchestrator.runs.finished import read_run
from orchestrator.settings_layers import resolve_settings
from orchestrator.storage.results_folder import run_at


def examples(count: int, *, fixed: bool = True) -> settings:
    """So many files: the same each time, unless said otherwise; each in the test's one folder."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=fixed,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            *([] if fixed else [HealthCheck.too_slow]),
        ],
    )


@dataclass(frozen=True)
class Reader:
    """What reads a file of some name in a folder.

    Attributes:
        whole: a file that it reads.
        beside: what must lie beside it, so that it is read at all.
    """

    name: str
    read: Callable[[Path], object]
    whole: bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)


def _config(path: Path) -> object:
    return resolve_settings({}, config=path)


_PROMPT = b'{"id": "p", "category": "A", "text": "Say it"}\n'
_HEADER = json.dumps({"w": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
_WEIGHTS = len(_HEADER).to_bytes(8, "little") + _HEADER + bytes(8)
_CONFIG = json.dumps(
    {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 64,
        "num_nextn_predict_layers": 0,
        "num_hidden_layers": 1,
        "torch_dtype": "float16",
        "quantization_config": {"quant_method": "awq"},
        "text_config": {"n_positions": 3},
    }
).encode()
_FOLDER = {"tokenizer.json": b"{}", "config.json": _CONFIG, "model-1.safetensors": _WEIGHTS}

PLAIN_READERS = (
    Reader("settings.yaml", _config, b"model: demo\nvariants: [fp16, nf4]\nmax-windows: 3\n"),
    Reader("gates.yaml", lambda path: gate_texts(str(path)), b"gates:\n- kl.mean <= 0.05\n"),
    Reader("prompts.jsonl", lambda path: load_prompts(str(path)), 2 * _PROMPT),
    Reader("rows.txt", lambda path: rows_of_path(path, "text"), b"some text\n\nmore\n"),
    Reader("rows.txt.gz", lambda path: rows_of_path(path, "text"), gzip.compress(b"some text\n")),
    Reader(
        "model.safetensors",
        lambda path: read_header(path, "--model"),
        _WEIGHTS,
    ),
    Reader(
        "model.safetensors.index.json",
        lambda path: read_folder(str(path.parent), None, "--model"),
        json.dumps({"weight_map": {"w": "model-1.safetensors"}}).encode(),
        _FOLDER,
    ),
    Reader(
        "config.json",
        lambda path: read_folder(str(path.parent), None, "--model"),
        _CONFIG,
        {**_FOLDER, "model.safetensors": _WEIGHTS},
    ),
    Reader(
        ADAPTER_CONFIG,
        lambda path: _base("a", path.parent, "--variants"),
        b'{"base_model_name_or_path": "m"}',
    ),
    Reader("run.json", lambda path: run_at(path.parent).read_manifest(), b'{"version": 10}'),
    Reader("comparison.json", lambda path: read_run(run_at(path.parent)), b'{"version": 4}'),
    Reader("events.jsonl", lambda path: run_at(path.parent).read_events(), b'{"event": "x"}\n'),
    Reader("written.json", lambda path: _write_group(path.parent), b'{"answers": ["a.json"]}'),
)


def _write_group(folder: Path) -> None:
    from orchestrator.storage.file_names import RunGroup

    run_at(folder).write_group(RunGroup.ANSWERS, {})


def gguf_reader(whole: bytes) -> Reader:
    """The reader of GGUF files.

    Args:
        whole: one that it reads.
    """
    return Reader("m.gguf", lambda path: read_gguf(str(path), None, "--model"), whole)


# What has broken readers of this kind before.
_NASTY = (
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"9" * 5_000,
    b"-" + b"9" * 400 + b"e400",
    b"&a [*a, *a]",
    b"\x00" * 9,
    b"\xff\xfe",
    b"\xf0\x9f",
    b"NaN",
    b"null",
    b"!!python/object/apply:os.system [true]",
    b"? [a]\n: b\n",
    b"<<: {x: 1}",
    b"\xff" * 8,
    b"\x00\x00\x00\x80" * 2,
    b'{"__metadata__": 3}',
)


def contents(whole: bytes) -> st.SearchStrategy[bytes]:
    """Anything at all, and what is almost a whole file."""
    place = st.integers(0, len(whole))
    nasty = st.sampled_from(_NASTY) | st.binary(max_size=40)
    spliced = st.builds(
        lambda begin, end, put: whole[: min(begin, end)] + put + whole[max(begin, end) :],
        place,
        place,
        nasty,
    )
    inserted = st.builds(lambda begin, put: whole[:begin] + put + whole[begin:], place, nasty)
    return spliced | inserted | nasty | st.binary(max_size=200)


def answers_or_refuses(reader: Reader, folder: Path, content: bytes) -> None:
    """Has a reader read a file; nothing but an answer or our own error in one line may come."""
    for name, beside in reader.beside.items():
        (folder / name).write_bytes(beside)
    path = folder / reader.name
    path.write_bytes(content)
    try:
        reader.read(path)
    except BadInputError as error:
        assert "\n" not in str(error).rstrip("\n")
