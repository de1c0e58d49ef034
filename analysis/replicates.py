"""Results of the replicates of a trial, and the file that keeps them.

A chunk is a run of consecutive replicates. Chunks have the same borders however
the work was shared out, so what is summed over them is the same to the byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CHUNK", "PARTS", "ComparisonWriter", "CutResults", "Key", "MethodResults", "chunks_of",
    "comparison_keys", "read_runs",
]  # fmt: skip

FloatArray = NDArray[np.float64]

Key = tuple[str, str, str, str]
"""Cut, arm, endpoint and method."""

CHUNK = 5000
"""Replicates that are summed up and written together; a multiple of 8 and of a block."""

LABELS = ("cut", "arm", "endpoint", "method")


@dataclass(frozen=True, slots=True)
class MethodResults:
    """One comparison in every replicate, each (R,)."""

    estimate: FloatArray
    standard_error: FloatArray
    z: FloatArray
    p_value: FloatArray

    def part(self, which: slice) -> MethodResults:
        """Some of the replicates."""
        return MethodResults(*(getattr(self, name)[which] for name in PARTS))


PARTS = tuple(item.name for item in fields(MethodResults))


@dataclass(frozen=True, slots=True)
class CutResults:
    """One data cut in every replicate."""

    date: FloatArray
    """Months since the start of accrual, (R,)."""

    target_reached: NDArray[np.bool_]
    """(R,)."""

    enrolled: FloatArray
    """Patients who had entered, (R,)."""

    events: Mapping[str, FloatArray]
    """Events of each endpoint in all arms, (R,)."""

    methods: Mapping[tuple[str, str, str], MethodResults]
    """By arm, endpoint and method."""

    screened: FloatArray | None = None
    """Patients who had been looked at, (R,), where a trial selects whom it enrols."""

    def part(self, which: slice) -> CutResults:
        """Some of the replicates."""
        return replace(
            self,
            date=self.date[which],
            target_reached=self.target_reached[which],
            enrolled=self.enrolled[which],
            events={name: values[which] for name, values in self.events.items()},
            methods={key: found.part(which) for key, found in self.methods.items()},
            screened=None if self.screened is None else self.screened[which],
        )


def comparison_keys(cuts: Mapping[str, CutResults]) -> list[Key]:
    """Every comparison in its order."""
    return [(cut, *key) for cut, results in cuts.items() for key in results.methods]


def chunks_of(cuts: Mapping[str, CutResults]) -> Iterator[dict[str, CutResults]]:
    """Results of all replicates, `CHUNK` at a time."""
    n = len(next(iter(cuts.values())).date)
    for start in range(0, n, CHUNK):
        which = slice(start, start + CHUNK)
        yield {name: results.part(which) for name, results in cuts.items()}


class ComparisonWriter:
    """Writes ``comparisons.parquet`` a chunk at a time, to be used in a ``with`` statement.

    A row group holds a chunk of one cut: method after method, and the
    replicates of each in their order.

    Parameters
    ----------
    path : pathlib.Path
        The file to be written.
    keys : sequence of (cut, arm, endpoint, method)
        Every comparison that will come.
    """

    def __init__(self, path: Path, keys: Sequence[Key]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._values = [sorted({key[i] for key in keys}) for i in range(len(LABELS))]
        text = pa.dictionary(pa.int32(), pa.string())
        numbers = [(name, pa.float64()) for name in (*PARTS, "date", "events")]
        self._schema = pa.schema(
            [
                *((name, text) for name in LABELS),
                ("replicate", pa.int64()),
                *numbers,
                ("target_reached", pa.bool_()),
            ]
        )
        # Without the schema of this library the labels are read as plain text everywhere.
        self._writer = pq.ParquetWriter(
            path, self._schema, compression="zstd", use_dictionary=list(LABELS), store_schema=False
        )

    def __enter__(self) -> ComparisonWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(self, first: int, cuts: Mapping[str, CutResults]) -> None:
        """Add the replicates from `first` on."""
        import pyarrow as pa

        for cut, results in cuts.items():
            found = results.methods
            n, k = len(results.date), len(found)
            columns: list[Any] = [
                self._labels(i, n, [(cut, *key)[i] for key in found]) for i in range(len(LABELS))
            ]
            columns.append(np.tile(np.arange(first, first + n), k))
            columns += [
                np.concatenate([getattr(item, part) for item in found.values()]) for part in PARTS
            ]
            columns += [
                np.tile(results.date, k),
                np.concatenate([results.events[endpoint] for _, endpoint, _ in found]),
                np.tile(results.target_reached, k),
            ]
            table = pa.Table.from_arrays([pa.array(c) for c in columns], schema=self._schema)
            self._writer.write_table(table, row_group_size=n * k)

    def _labels(self, level: int, n: int, labels: Sequence[str]) -> Any:
        """A column of labels, each repeated for `n` replicates."""
        import pyarrow as pa

        values = self._values[level]
        codes = np.array([values.index(label) for label in labels], dtype=np.int32)
        return pa.DictionaryArray.from_arrays(np.repeat(codes, n), values)


def read_runs(path: Path, columns: Sequence[str]) -> Iterator[tuple[Key, list[NDArray[Any]]]]:
    """Columns of ``comparisons.parquet``, a run of rows of one comparison at a time.

    Yields
    ------
    key : (cut, arm, endpoint, method)
    values : list of ndarray
        The columns asked for, in the order of the file. A comparison comes
        once in each chunk.

    Raises
    ------
    OSError, ValueError
        If it is no such file.
    """
    import pyarrow.parquet as pq

    missing = {*LABELS, *columns} - set(pq.read_schema(path).names)
    if missing:
        raise ValueError(f"no column {', '.join(sorted(missing))}")
    with pq.ParquetFile(path, read_dictionary=list(LABELS)) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=[*LABELS, *columns]).combine_chunks()
            if not table.num_rows:
                continue
            labels = [table[name].chunk(0) for name in LABELS]
            codes = np.array([label.indices.to_numpy() for label in labels])
            starts = np.flatnonzero(np.any(np.diff(codes, axis=1, prepend=-1), axis=0))
            values = [table[name].to_numpy() for name in columns]
            for start, stop in zip(starts, [*starts[1:], table.num_rows], strict=True):
                cut, arm, endpoint, method = (label[int(start)].as_py() for label in labels)
                yield (cut, arm, endpoint, method), [part[start:stop] for part in values]
