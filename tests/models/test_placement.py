"""Where variants are held: the first place that holds them, or as said; and what hangs on it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from orchestrator.cli import run_command
from orchestrator.contract.stages import GenerationsPayload
from orchestrator.contract.variants import VARIANTS
from orchestrator.errors import BadInputError
from orchestrator.inputs.sources import Inputs, read_inputs
from orchestrator.planning.devices import Devices
from orchestrator.planning.placements import choices_of
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.planning.sizes import tokens_with_cache
from orchestrator.preparing import plan_of
from orchestrator.settings import Settings
from orchestrator.settings_layers import resolve_settings
from orchestrator.storage.results_folder import ResultsFolder
from tests.made_up_actors import Sweep, fine
from tests.pipeline import make_test_plan, markdown_of, run_in_process, write_inputs
from tests.sample_rows import SAMPLE_ROWS
from tests.tiny_models import make_mistral


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        **write_inputs(folder, SAMPLE_ROWS, prompts=5),
        "model": str(make_deep_model(folder)),
        "variants": ("fp32", "fp16", "nf4"),
        "window_length": 32,
        "max_windows": 6,
        "batch_tokens": 64,
        "max_new_tokens": 4,
    }


def make_deep_model(folder: Path) -> Path:
    """One of which two layers are but a part."""
    return make_mistral(folder, hidden=128, intermediate=256, layers=6, max_position_embeddings=128)


@pytest.fixture(scope="module")
def inputs(said: dict[str, Any]) -> Inputs:
    return read_inputs(Settings(**said))


def gpus(memory_bytes: int | None, *, count: int = 1, host_bytes: int | None = None) -> Devices:
    return Devices("cuda", count, memory_bytes, 4, host_bytes=host_bytes, node_gpus=(count,))


def planned(said: dict[str, Any], inputs: Inputs, devices: Devices, **more: Any) -> Plan:
    return make_plan(Settings(**{**said, **more}), inputs, devices)


def needs(plan: Plan, name: str) -> int:
    return next(variant.needed_bytes or 0 for variant in plan.variants if variant.name == name)


ON_DEVICE = {"fp32": "device", "fp16": "device", "nf4": "device"}


def test_a_variant_is_streamed_where_the_device_does_not_hold_it(
    said: dict[str, Any], inputs: Inputs
) -> None:
    whole = planned(said, inputs, gpus(None))
    assert whole.places == ON_DEVICE
    room = needs(whole, "fp32")
    assert planned(said, inputs, gpus(room)).places == ON_DEVICE
    less = planned(said, inputs, gpus(room - 1))
    assert less.places == {**ON_DEVICE, "fp32": "stream"}
    assert needs(less, "fp32") < room and less.identity == whole.identity
    assert less.run_id == whole.run_id


def test_several_devices_of_a_machine_come_before_streaming(
    said: dict[str, Any], inputs: Inputs
) -> None:
    whole = planned(said, inputs, gpus(None, count=4))
    assert whole.places == ON_DEVICE
    less = gpus(needs(whole, "fp32") - 1, count=4)
    assert planned(said, inputs, less).places == {**ON_DEVICE, "fp32": "devices:2"}
    # Two GPUs of two machines are none.
    apart = replace(less, node_gpus=(1, 1, 1, 1))
    assert planned(said, inputs, apart).places == {**ON_DEVICE, "fp32": "stream"}
    four = planned(said, inputs, gpus(None, count=4), placement={"nf4": "devices:4"})
    assert four.places == {**ON_DEVICE, "nf4": "devices:4"}
    spread = next(variant for variant in four.variants if variant.name == "nf4")
    # One of them may have a layer more than its share.
    assert spread.placement.gpus == 4 and spread.device_bytes and spread.needed_bytes
    assert spread.needed_bytes < 4 * spread.device_bytes
    assert needs(four, "nf4") > needs(whole, "nf4") > spread.device_bytes


def test_what_no_place_holds_is_refused_and_so_is_a_place_that_is_said(
    said: dict[str, Any], inputs: Inputs
) -> None:
    room = needs(planned(said, inputs, gpus(None)), "fp32") - 1
    for placement in ("device", {"fp32": "device"}):
        with pytest.raises(BadInputError, match=r"^--variants: fp32 needs .* these fit: fp16, bf"):
            planned(said, inputs, gpus(room), placement=placement)
    with pytest.raises(BadInputError, match=r"^--variants: .* too much; no variant fits$"):
        planned(said, inputs, gpus(2**20))


def test_streamed_as_said_are_plain_weights_and_the_rest_is_where_it_fits(
    said: dict[str, Any], inputs: Inputs
) -> None:
    everything = planned(said, inputs, gpus(None), placement="stream")
    assert everything.places == {"fp32": "stream", "fp16": "stream", "nf4": "device"}
    one = planned(said, inputs, gpus(None), placement={"fp16": "stream"})
    assert one.places == {**ON_DEVICE, "fp16": "stream"}


def test_which_variants_are_held_as_plain_numbers() -> None:
    of_four = Settings(placement="stream")
    streamed = [
        name
        for name, variant in VARIANTS.items()
        if next(choices_of(variant, of_four, gpus(None))).kind == "stream"
    ]
    assert streamed == ["fp32", "fp16", "bf16"]


@pytest.mark.parametrize(
    ("placement", "problem"),
    [
        ({"nf4": "stream"}, "nf4 is quantized, and plain weights alone are streamed; say device"),
        ({"fp61": "stream"}, "'fp61' is not one of --variants; did you mean 'fp16'"),
        ({"fp16": "strem"}, r"name auto, device, devices, devices:N or stream \(got 'strem'\)"),
        ("everywhere", r"name auto, device, devices, devices:N or stream \(got 'everywhere'\)"),
        ("devices", "fp32 is to be on several GPUs of a machine, and a machine has 1 here; take"),
        ("devices:3", "fp32 is to be on 3 GPUs of a machine, and a machine has 1 here; take fewer"),
        ({"nf4": "devices:1"}, "nf4 on one device is said by device alone, not devices:1"),
    ],
)
def test_a_place_that_cannot_be_is_refused_in_one_line(
    said: dict[str, Any], inputs: Inputs, placement: Any, problem: str
) -> None:
    with pytest.raises(BadInputError, match=f"^--placement: .*{problem}"):
        make_plan(resolve_settings({**said, "placement": placement}), inputs, gpus(None))


def test_a_host_without_the_memory_is_told_of_and_in_auto_nothing_is_streamed_from_it(
    said: dict[str, Any], inputs: Inputs
) -> None:
    small = gpus(None, host_bytes=2**20)
    with pytest.raises(BadInputError, match=r"^--placement: fp32 is streamed from the host's mem"):
        planned(said, inputs, small, placement="stream")
    room = needs(planned(said, inputs, gpus(None)), "fp32") - 1
    with pytest.raises(BadInputError, match=r"^--variants: fp32 needs .* on a device"):
        planned(said, inputs, replace(small, memory_bytes=room))


def test_only_what_a_place_changes_has_another_fingerprint(
    said: dict[str, Any], inputs: Inputs
) -> None:
    """Windows and answers that are scored go on from either; answers and what is measured of the
    device do not, and what is scored of the reference's answers follows these.
    """

    def fingerprints(**more: Any) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        machine = gpus(None, count=2)
        for shard in planned({**said, "batch_sizes": (2,)}, inputs, machine, **more).shards:
            place = shard.record.variant, shard.record.stage
            found.setdefault(place, []).append(shard.record.fingerprint)
        return found

    def changed(**more: Any) -> set[tuple[str, str]]:
        other = fingerprints(**more)
        return {place for place in whole if other.get(place) != whole[place]}

    whole = fingerprints()
    own = {("fp32", stage) for stage in ("loading", "generations", "throughput")}
    assert changed(placement={"fp32": "stream"}) == own
    assert changed(placement={"fp32": "devices:2"}) == own
    reference = {("fp16", stage) for stage in ("loading", "generations", "throughput")}
    follow = {(name, "teacher_forced") for name in ("fp32", "fp16", "nf4")}
    assert changed(placement={"fp16": "stream"}) == reference | follow


def test_as_many_prompts_are_answered_together_as_take_no_more_room_than_windows(
    said: dict[str, Any], inputs: Inputs
) -> None:
    def groups(batch_tokens: int) -> list[GenerationsPayload]:
        plan = planned(said, inputs, gpus(None), placement="stream", batch_tokens=batch_tokens)
        payloads = [shard.payload for shard in plan.variants[0].shards]
        return [one for one in payloads if isinstance(one, GenerationsPayload) and one.together]

    tensors = inputs.model.checkpoint.tensors
    for batch_tokens in (32, 96, 10_000):
        found = groups(batch_tokens)
        assert [n for group in found for n in group.item_numbers] == list(range(5))
        for group in found:
            rows, longest = len(group.prompts), max(len(one.input_ids) for one in group.prompts)
            room = tokens_with_cache(tensors, batch_tokens)
            assert rows == 1 or rows * (longest + group.max_new_tokens) <= room
    assert len(groups(10_000)) == 1 < len(groups(32))


def test_the_host_has_no_more_streamed_models_than_it_holds(
    said: dict[str, Any], inputs: Inputs
) -> None:
    said = {**said, "shard_size": 1, "batch_tokens": 1, "max_prompts": 0}
    inputs = read_inputs(Settings(**said))
    fp32 = planned(said, inputs, gpus(None), placement="stream").variants[0]
    # Of four GPUs the quantized one has its own.
    for holds, at_once in ((1.5, 1), (2.5, 2), (9.0, 3)):
        plan = planned(
            said,
            inputs,
            gpus(None, count=4, host_bytes=int(holds * fp32.host_bytes)),
            placement="stream",
        )
        sweep = Sweep(plan, fine)
        assert not sweep.run().abandoned
        streamed: set[int] = set()
        most = 0
        for event in sweep.events:
            if event.variant in ("fp32", "fp16") and event.actor is not None:
                if event.event == "actor_started":
                    streamed.add(event.actor)
                elif event.event == "actor_stopped":
                    streamed.discard(event.actor)
                most = max(most, len(streamed))
        assert most == at_once


def tokens_of(folder: Path) -> list[Any]:
    names = ("tokens", "teacher_forced_tokens", "noise_tokens")
    return [pq.read_table(folder / "tables" / f"{name}.parquet") for name in names]


def test_a_sweep_that_streams_finds_the_same_and_gives_no_times(
    said: dict[str, Any], tmp_path: Path
) -> None:
    found = {
        placement: run_in_process(
            make_test_plan(
                **{**said, "reference": "fp16", "batch_sizes": (2,)},
                results=tmp_path,
                run_id=placement,
                placement=placement,
            )
        )
        for placement in ("device", "stream")
    }
    assert tokens_of(tmp_path / "stream") == tokens_of(tmp_path / "device")
    whole, streamed = (found[name].variants for name in ("device", "stream"))
    for name in ("fp32", "fp16"):
        figures = streamed[name]
        assert figures.placement == "stream" and figures.throughput == []
        assert figures.generation.latency == {} and figures.own_speed is None
        assert figures.generation.seconds.value is None
        assert figures.generation.tokens_per_second.value is None
        assert figures.memory.device_peak_bytes is None
        assert figures.memory.weights_bytes == whole[name].memory.weights_bytes
        assert figures.perplexity == whole[name].perplexity and figures.kl == whole[name].kl
    # Against a reference without times there is no change of them.
    assert streamed["nf4"].generation.latency
    assert streamed["nf4"].generation.tokens_per_second.delta_pct is None
    assert whole["nf4"].generation.tokens_per_second.delta_pct is not None
    assert whole["nf4"].placement == streamed["nf4"].placement == "device"
    notes = [note for note in found["stream"].notes if "lay in the host's memory" in note]
    assert [note.partition(":")[0] for note in notes] == ["fp32", "fp16"]
    assert markdown_of(found["stream"])


def test_answers_that_were_made_together_are_verified_where_they_are_not(
    said: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {**said, "variants": ("fp16", "nf4"), "max_windows": 0, "shard_size": 2}
    plan = make_test_plan(**chosen, results=tmp_path, run_id="r", placement="stream")
    groups = [len(s.payload.item_numbers) for s in plan.shards if s.record.stage == "generations"]
    assert groups[0] > 1
    run_in_process(plan)
    # All that score answers; each reads some of those.
    assert run_command(["verify", str(tmp_path / "r"), "--sample", "6"]) == 0
    assert "nf4" in capsys.readouterr().out


def test_a_run_goes_on_where_its_variants_were_as_long_as_they_fit(
    said: dict[str, Any], inputs: Inputs, tmp_path: Path
) -> None:
    settings = Settings(**said, results=tmp_path, run_id="begun")
    begun = make_test_plan(**said, results=tmp_path, run_id="begun", placement={"fp32": "stream"})
    run_in_process(begun)
    results = ResultsFolder.at(settings.results)
    on_a_cpu = Devices("cpu", 1, None, node_cores=1)
    again = plan_of(settings, inputs, on_a_cpu, results)
    assert again.places == {**ON_DEVICE, "fp32": "stream"}
    assert again.settings == settings
    # What was said counts, and so does what is there.
    told = settings.model_copy(update={"placement": "device"})
    assert plan_of(told, inputs, on_a_cpu, results).places == ON_DEVICE
    short = replace(on_a_cpu, memory_bytes=needs(begun, "fp32"), host_bytes=2**20)
    with pytest.raises(BadInputError, match=r"^--variants"):
        plan_of(settings, inputs, short, results)
