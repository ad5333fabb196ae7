"""Which nodes are left out for the files that they lack."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.running.node_files import Lacking, lacking

FILES = ("a/config.json", "a/model.safetensors", "b/model.safetensors")


def test_a_node_that_lacks_what_another_has_is_left_out_and_its_first_file_is_named() -> None:
    missed = {"one": [], "two": ["a/config.json", "a/model.safetensors"]}
    assert lacking(missed) == [Lacking("two", "a/config.json")]


def test_what_no_node_has_is_no_fault_of_theirs() -> None:
    assert lacking({"one": list(FILES), "two": list(FILES)}) == []
    missed = {"one": ["b/model.safetensors"], "two": ["b/model.safetensors", "a/config.json"]}
    assert lacking(missed) == [Lacking("two", "a/config.json")]
    assert lacking({}) == []


@given(
    st.dictionaries(
        st.sampled_from("pqrst"), st.lists(st.sampled_from(FILES), unique=True), max_size=5
    )
)
def test_those_that_stay_have_every_file_that_any_node_has(missed: dict[str, list[str]]) -> None:
    out = {one.node for one in lacking(missed)}
    for file in FILES:
        if any(file not in files for files in missed.values()):
            assert all(file not in missed[node] for node in missed.keys() - out)
