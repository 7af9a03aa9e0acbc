"""512 tokens at bert-base's shape: every method within 4 GB above the model, each in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from itertools import islice
import torch
from transformers import BertConfig, BertModel
from helpers import *

class Enough(Exception): pass
def progress(steps, desc):  # the memory is that of one pass; all of them would take an hour
    yield from islice(steps, 3)
    raise Enough

model = BertModel(BertConfig(num_hidden_layers=2)).eval().requires_grad_(False)
ids = {"input_ids": torch.arange(1000, 1512)[None]}
model(**ids)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    exec(sys.argv[1])
except Enough:
    pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""
FEW_CHUNKS = """
stack = layer_stack(model, ids)
J = LayerJacobian(stack.layers[0], stack.states[0])
chunks = list(islice(J._chunks(None, None), 2))
J._chunks = lambda *_: iter(chunks)
"""
CALLS = {
    "noise_response": "noise_response(model, ids, position=1, observe='encoder.layer.*', samples=8)",
    "layer exact": FEW_CHUNKS + "J.squared_norms()",
    "paths": FEW_CHUNKS + "J.paths()",
    "layer noise": "layer_influence(model, ids, method='noise', samples=8, progress=progress)",
    "layer jvp": "layer_influence(model, ids, method='jvp', samples=8, progress=progress)",
    "downstream jvp": "downstream_influence(model, ids, samples=8, progress=progress)",
    "downstream noise": "downstream_influence(model, ids, method='noise', samples=8, progress=progress)",
    "shape_table and record": "shape_table(model, ids)\nwith record(model, '*.*.*.*') as trace: model(**ids)",
}


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_memory_is_bounded(call):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, CALLS[call]], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 4, f"{call}: {float(run.stdout):.2f} GiB"
