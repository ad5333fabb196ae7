"""Which nodes are left out for what they lack."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.running.nodes import LeftOut, Needs, NodeReport, left_out

FILES = ("a/config.json", "a/model.safetensors", "b/model.safetensors")
NEEDS = Needs(FILES, gpu_bytes=20 * 2**30)
SMALL, LARGE = 16 * 2**30, 80 * 2**30


def test_a_node_that_lacks_what_another_has_is_left_out_and_its_first_file_is_named() -> None:
    reports = {"one": NodeReport(), "two": NodeReport(missing=FILES[:2])}
    why = "lacks a/config.json; put the files there, at the same path"
    assert left_out(reports, NEEDS) == [LeftOut("two", why)]


def test_what_no_node_has_is_no_fault_of_theirs() -> None:
    assert left_out({"one": NodeReport(FILES), "two": NodeReport(FILES)}, NEEDS) == []
    reports = {"one": NodeReport(FILES[2:]), "two": NodeReport((FILES[2], FILES[0]))}
    assert [one.node for one in left_out(reports, NEEDS)] == ["two"]
    assert left_out({}, NEEDS) == []


def test_a_gpu_too_small_for_a_variant_is_left_out_beside_larger_ones() -> None:
    reports = {"one": NodeReport(gpu_bytes=LARGE), "two": NodeReport(gpu_bytes=SMALL)}
    why = "has a GPU of 16.0 GiB, and a variant needs 20.0 GiB"
    assert left_out(reports, NEEDS) == [LeftOut("two", why)]
    # Where none is large enough, the plan says so; what is not known is not held against it.
    assert left_out({"two": NodeReport(gpu_bytes=SMALL)}, NEEDS) == []
    assert left_out({"one": NodeReport(), "two": NodeReport()}, NEEDS) == []


REPORTS = st.dictionaries(
    st.sampled_from("pqrst"),
    st.builds(
        NodeReport,
        missing=st.lists(st.sampled_from(FILES), unique=True).map(tuple),
        gpu_bytes=st.sampled_from([None, SMALL, LARGE]),
    ),
    max_size=5,
)


@given(REPORTS)
def test_those_that_stay_have_every_file_that_any_node_has(reports: dict[str, NodeReport]) -> None:
    out = [one.node for one in left_out(reports, NEEDS)]
    assert len(out) == len(set(out))
    for file in FILES:
        if any(file not in report.missing for report in reports.values()):
            assert all(file not in reports[node].missing for node in reports.keys() - set(out))


@given(REPORTS)
def test_those_that_stay_are_all_large_enough_or_none_is(reports: dict[str, NodeReport]) -> None:
    stay = reports.keys() - {one.node for one in left_out(reports, NEEDS)}
    small = {node for node in stay if reports[node].gpu_bytes == SMALL}
    assert small in (set(), stay)
