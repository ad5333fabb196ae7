"""Windows → rows of the stage `windows`, alone or held against the reference's states."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from actors.device_memory import device_bytes, forget_peaks, give_back
from actors.head import Head, StateReader, States
from actors.noise import attention_by, other_order_of
from actors.stopwatch import Stopwatch
from actors.token_divergence import compare_positions, negative_log_likelihoods
from actors.token_measures import TokenMeasures
from actors.transfer import host_tensor, to_array, to_device, token_ids
from actors.worst_token_texts import Decode, worst_token_lists
from orchestrator.contract.exchange import OutputHead, ReferenceStates, TensorData
from orchestrator.contract.shards import Window
from orchestrator.contract.stages import ComparedPayload, NoisePayload, WindowsPayload
from orchestrator.contract.tables import (
    OTHER_ORDER,
    TOKEN_FIELDS,
    TOKEN_LISTS,
    WINDOW_FIELDS,
    WORST_TOKEN_LISTS,
    less,
    make_table,
)
from orchestrator.contract.variant_errors import IncomparableError, TooLargeError

# By name of the field in `TOKEN_FIELDS`: `[scored tokens]` of one window, on the device.
_Measured = Mapping[str, torch.Tensor]
# The same of a whole shard, on the host.
_Columns = Mapping[str, NDArray[Any]]


class WindowRunner:
    """Runs one model over windows, some at once where their payload says so.

    LLM.int8 chooses the columns that it keeps in half precision over the whole batch, so that a
    token's likelihood would depend on its neighbours in one: for such a model each window is a
    batch of its own.

    Args:
        model: a causal language model of transformers.
        device: where its inputs go.
        decode: token ids → text.
        at_once: whether windows may be in a batch together.
    """

    def __init__(
        self, model: Any, device: torch.device, decode: Decode, *, at_once: bool = True
    ) -> None:
        self._at_once = at_once
        self._model = model
        self._decode = decode
        self._reader = StateReader(model, device)
        # Where states are, and all that is made of them.
        self._device = self._reader.device
        self._reference_head: Head | None = None

    @property
    def state_bytes(self) -> int:
        """What the states of one scored position take."""
        return self._reader.width * self._reader.dtype.itemsize

    @property
    def vocabulary(self) -> int:
        """How many tokens the model's logits are over."""
        return self._reader.vocabulary

    def output_head(self) -> OutputHead | None:
        """What a candidate needs to make logits of this model's states; None: they are logits."""
        head = self._reader.head
        if head is None:
            return None
        bias = None if head.bias is None else to_array(head.bias)
        return OutputHead(to_array(head.weight), bias, head.steps)

    def score(self, payload: ComparedPayload) -> pa.Table:
        """The rows of a shard's windows, by the stage's schema less `variant`."""

        def work(window: Window, states: States, _: slice) -> _Measured:
            return self._likelihoods(states, window)

        return _without_worst_tokens(self._rows(payload, work)[0], payload)

    def score_and_keep(self, payload: ComparedPayload) -> tuple[pa.Table, ReferenceStates]:
        """The rows of a shard's windows, as of `score`, and the states of all scored positions."""
        shape = (payload.scored_positions, self._reader.width)
        kept = host_tensor(shape, self._reader.dtype, self._device)

        def work(window: Window, states: States, place: slice) -> _Measured:
            kept[place].copy_(states.values, non_blocking=True)
            return self._likelihoods(states, window)

        # All copies are over once the rows are there.
        table = _without_worst_tokens(self._rows(payload, work)[0], payload)
        return table, to_array(kept)

    def compare(
        self, payload: ComparedPayload, states: ReferenceStates, described: OutputHead | None
    ) -> pa.Table:
        """The rows of a shard's windows, each token held against the reference's states of it.

        Args:
            described: the reference's output head; None where its states are logits.
        """
        head = None if described is None else self._head_of_reference(described)

        def work(window: Window, own: States, place: slice) -> _Measured:
            values = to_device(TensorData(states.values[place], states.dtype), self._device)
            return self._held_against(States(values, head), own, window)

        table, columns = self._rows(payload, work)
        if not isinstance(payload, WindowsPayload):
            return table
        worst = worst_token_lists(payload.windows, columns, self._decode)
        return table.append_column(WORST_TOKEN_LISTS, worst)

    def noise(self, payload: NoisePayload) -> pa.Table:
        """The rows of the stage `noise`, less `variant`: this model against itself.

        The second time its arithmetic is in another order.
        """
        other = other_order_of(self._model)

        def work(window: Window, own: States, _: slice) -> _Measured:
            with attention_by(self._model, other.attention):
                again = self._reader.states(window, other.copies)
            return self._held_against(own, again, window)

        table, _ = self._rows(payload, work)
        forget_peaks(self._device)
        return table.append_column(OTHER_ORDER, pa.array([other.name] * len(table), pa.string()))

    def _held_against(self, reference: States, candidate: States, window: Window) -> _Measured:
        """Each scored token, over the tokens that both models have logits of.

        Of a padded embedding the rest is no token. Likelihoods are over each model's own logits.
        """
        common = min(reference.vocabulary, candidate.vocabulary)
        largest = max(window.target_ids, default=0)
        if largest >= common:
            raise IncomparableError(
                f"token {largest} is scored, and both models have logits of {common} tokens alone; "
                "compare models that share a tokenizer"
            )
        one, other = reference.over(common), candidate.over(common)
        measures = compare_positions(
            one.logits,
            other.logits,
            token_ids(window.target_ids, self._device),
            common,
            one.logit_bytes + other.logit_bytes,
        )
        columns = dict(_columns(measures))
        if other is not candidate:
            columns |= self._likelihoods(candidate, window)
        if one is not reference:
            own = self._likelihoods(reference, window)["negative_log_likelihood"]
            columns["reference_negative_log_likelihood"] = own
        return columns

    def _head_of_reference(self, described: OutputHead) -> Head:
        """The reference's head on this device: the model's own, where the two are equal."""
        if self._reference_head is None:
            weight = to_device(described.weight, self._device)
            bias = None if described.bias is None else to_device(described.bias, self._device)
            other, own = Head(weight, bias, described.steps), self._reader.head
            self._reference_head = own if own is not None and own.equals(other) else other
        return self._reference_head

    def _likelihoods(self, states: States, window: Window) -> _Measured:
        targets = token_ids(window.target_ids, self._device)
        return {
            "negative_log_likelihood": negative_log_likelihoods(
                states.logits, targets, states.vocabulary, states.logit_bytes
            )
        }

    def _states(self, windows: Sequence[Window]) -> list[States]:
        """The states of windows of one length that are run at once.

        Raises:
            TooLargeError: the device does not hold so many of them; says how many it does.
        """
        if (states := self._states_if_held(windows)) is not None:
            return states
        fewer = len(windows) // 2
        while self._states_if_held(windows[:fewer]) is None:
            fewer //= 2
        raise TooLargeError(
            f"{len(windows)} windows at once are more than the device's memory holds; {fewer} "
            f"fit: take --batch-tokens {fewer * len(windows[0].input_ids)}"
        )

    def _states_if_held(self, windows: Sequence[Window]) -> list[States] | None:
        """The states of windows that are run at once; None where the device does not hold them.

        Raises:
            OutOfMemoryError: it does not hold a single one.
        """
        try:
            return self._reader.states_of(windows)
        except torch.cuda.OutOfMemoryError:
            if len(windows) == 1:
                raise
        # Out of the exception's reach, which keeps what was made so far.
        give_back(self._device)
        return None

    def _batches(self, payload: ComparedPayload | NoisePayload) -> list[list[Window]]:
        """A shard's windows as they are run, in order."""
        batch = payload.batch if isinstance(payload, WindowsPayload) and self._at_once else 1
        # Whole logits of several windows would take more memory than all else.
        batch = 1 if self._reader.head is None else batch
        return [
            [window for _, window in several]
            for _, several in groupby(
                enumerate(payload.windows),
                key=lambda placed: (placed[0] // batch, len(placed[1].input_ids)),
            )
        ]

    @torch.inference_mode()
    def _rows(
        self,
        payload: ComparedPayload | NoisePayload,
        work: Callable[[Window, States, slice], _Measured],
    ) -> tuple[pa.Table, _Columns]:
        """Works on each batch in turn, queueing all before it looks at a result.

        Args:
            work: makes a window's token measures of its states; gets its place among the shard's
                scored tokens.

        Returns:
            The columns of the table `windows` less `variant`, with the lists of tokens, and what
            was measured of all tokens.
        """
        clock = Stopwatch(self._device)
        measured, memory, last = [], [], 0
        windows, batches = payload.windows, self._batches(payload)
        for batch in batches:
            for window, states in zip(batch, self._states(batch), strict=True):
                place = slice(last, last + len(window.target_ids))
                measured.append(work(window, states, place))
                last = place.stop
            clock.mark()
            memory += [device_bytes(self._device)] * len(batch)
        # Of windows that were run at once each has its share of the time.
        seconds = [
            taken / len(batch)
            for batch, taken in zip(batches, clock.seconds(), strict=True)
            for _ in batch
        ]
        columns = {
            name: torch.cat([window[name] for window in measured]).cpu().numpy()
            for name in measured[0]
        }
        counts = [len(window.target_ids) for window in windows]
        likelihoods = columns["negative_log_likelihood"].astype(np.float64)
        sums = [part.sum() for part in np.split(likelihoods, np.cumsum(counts)[:-1])]
        rows = [
            {
                "window": payload.item_numbers[number],
                "first_position": window.start + 1,
                "scored_tokens": counts[number],
                "negative_log_likelihood": sums[number],
                "logits_from": "model" if self._reader.head is None else "head",
                "seconds": seconds[number],
                **memory[number],
            }
            for number, window in enumerate(windows)
        ]
        table = make_table(rows, less(pa.schema(WINDOW_FIELDS), "variant"))
        return table.append_column(TOKEN_LISTS, _token_lists(windows, columns)), columns


def _without_worst_tokens(table: pa.Table, payload: ComparedPayload) -> pa.Table:
    """Rows that are held against nothing, by the schema of their stage."""
    if not isinstance(payload, WindowsPayload):
        return table
    return table.append_column(WORST_TOKEN_LISTS, pa.nulls(len(table), WORST_TOKEN_LISTS.type))


def _columns(measures: TokenMeasures) -> _Measured:
    return {
        "negative_log_likelihood": measures.candidate_negative_log_likelihood,
        "reference_negative_log_likelihood": measures.reference_negative_log_likelihood,
        "kl": measures.kl,
        "reverse_kl": measures.reverse_kl,
        "probability_change": measures.probability_change,
        "reference_top_token": measures.reference_top_token,
        "reference_top_probability": measures.reference_top_probability,
        "top_token": measures.candidate_top_token,
        "top_probability": measures.candidate_top_probability,
        "same_top_token": measures.same_top_token,
    }


def _token_lists(windows: Sequence[Window], columns: _Columns) -> pa.ListArray:
    """What was measured of all tokens, as a list of records a window."""
    ids = np.concatenate([np.asarray(window.target_ids, dtype=np.int32) for window in windows])
    known = {"token": ids, **columns}
    arrays = [
        pa.array(known[field.name], type=field.type)
        if field.name in known
        else pa.nulls(len(ids), field.type)
        for field in TOKEN_FIELDS
    ]
    offsets = np.cumsum([0, *(len(window.target_ids) for window in windows)], dtype=np.int32)
    records = pa.StructArray.from_arrays(arrays, fields=TOKEN_FIELDS)
    return pa.ListArray.from_arrays(offsets, records, type=TOKEN_LISTS.type)
