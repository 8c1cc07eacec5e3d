"""Counts openat(2) by comm, with the total and the longest latency: the example in Python, with nothing but wit/.

`wit_world` and `componentize_py_types` are what componentize-py makes of the plugin contract; README.md has the commands.
"""

import wit_world
from componentize_py_types import Err
from wit_world.imports import output, types
from wit_world.imports.output import CellKind, TableColumn, Unit

TABLE = output.Table(
    "opens_by_comm",
    [
        TableColumn("comm", CellKind.TEXT, Unit.NONE),
        TableColumn("count", CellKind.U64, Unit.NONE),
        TableColumn("total", CellKind.U64, Unit.NANOSECONDS),
        TableColumn("longest", CellKind.U64, Unit.NANOSECONDS),
    ],
)


class Sum:
    def __init__(self):
        self.count = self.total = self.longest = 0


# The state is the module's: each call from the host makes a WitWorld of its own.
sums: dict[str, Sum] = {}
position: dict[str, int] = {}  # of each column of the one stream


class WitWorld(wit_world.WitWorld):
    def configure(self, config: str) -> types.Program:
        if config != "{}":
            raise Err("config: this plugin has nothing to configure")
        probe = types.Probe("openat", ["span:syscall:openat"], None, "emit opens { comm, duration };", False)
        return types.Program([probe], [])

    def prepare(self, schema: types.Schema) -> list[output.Table]:
        found = [(field.name, field.kind) for stream in schema.streams for field in stream.fields]
        if sorted(found) != [("comm", types.Kind.TEXT), ("duration", types.Kind.U64)]:
            raise Err("one stream with the columns comm (text) and duration (u64) is expected")
        position.update((name, index) for index, (name, _) in enumerate(found))
        return [TABLE]

    def start(self, opening: types.Opening) -> None:
        pass

    def handle(self, batch: types.Batch) -> None:
        for rows in batch.rows:
            texts = rows.columns[position["comm"]].values.value
            durations = rows.columns[position["duration"]].values.value
            for text, duration in zip(texts, durations):
                comm = batch.strings[text]
                if comm not in sums:
                    sums[comm] = Sum()
                of_comm = sums[comm]
                of_comm.count += 1
                of_comm.total += duration
                of_comm.longest = max(of_comm.longest, duration)

    def tick(self, timer: int) -> None:
        pass

    def finish(self, closing: types.Closing) -> None:
        comms, of_comms = list(sums), list(sums.values())
        cells = [
            output.Cells_Text(list(range(len(comms)))),
            output.Cells_U64([of_comm.count for of_comm in of_comms]),
            output.Cells_U64([of_comm.total for of_comm in of_comms]),
            output.Cells_U64([of_comm.longest for of_comm in of_comms]),
        ]
        columns = [output.TableValues(column, absent=b"") for column in cells]
        output.append(0, output.TableRows([closing.quiesced] * len(comms), columns, comms))

    def hand_over(self) -> bytes | None:
        return None
