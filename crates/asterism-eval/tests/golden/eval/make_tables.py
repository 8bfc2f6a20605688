"""Makes the Parquet files that the tests of the reader take, with pyarrow.

    .venv/bin/pip install pyarrow==26.0.1
    .venv/bin/python crates/asterism-eval/tests/golden/eval/make_tables.py

Row i of every file that can be read holds `input` = the sentence "Mary went to room i. " i % 7 + 1 times,
`question` = "Where is Mary? " and `target` = "room i % 3".
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent / "tables"


def table(rows, **columns):
    names = {
        "id": list(rows),
        "target": [f"room {i % 3}" for i in rows],
        "question": ["Where is Mary? "] * len(rows),
        "input": [f"Mary went to room {i}. " * (i % 7 + 1) for i in rows],
    }
    return pa.table(names | columns)


def write(name, table, **options):
    pq.write_table(table, HERE / f"{name}.parquet", **options)


HERE.mkdir(exist_ok=True)
rows = range(40)
# As `datasets` writes them.
write("snappy", table(rows))
# Several groups of rows, several pages in each, dictionaries that overflow into plain pages.
small = dict(data_page_size=200, dictionary_pagesize_limit=150, write_batch_size=4)
write("zstd", table(rows), compression="zstd", row_group_size=17, **small)
write("second", table(rows), data_page_version="2.0", row_group_size=30, **small)
write("plain", table(rows), compression="none", use_dictionary=False)
required = pa.schema([pa.field(f.name, f.type, nullable=False) for f in table(rows).schema])
write("required", table(rows).cast(required), data_page_version="2.0", compression="zstd")
write("split-00000-of-00002", table(range(25)))
write("split-00001-of-00002", table(range(25, 40)))
# Row 1 has no question, row 2 a target that is no UTF-8.
odd = [f"room {i % 3}".encode() for i in rows]
odd[2] = b"\xff\xfe"
questions = [None if i == 1 else "Where is Mary? " for i in rows]
write("odd", table(rows, question=questions, target=pa.array(odd, pa.binary())))
# What is not read.
write("numbers", table(rows, target=list(rows)))
write("lists", table(rows, target=[["room"]] * 40))
write("missing", table(rows).drop(["target"]))
write("gzip", table(rows), compression="gzip")
delta = {"input": "DELTA_BYTE_ARRAY", "question": "PLAIN", "target": "PLAIN", "id": "PLAIN"}
write("delta", table(rows), use_dictionary=False, column_encoding=delta)
