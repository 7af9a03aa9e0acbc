import inspect

import pytest
import transformers
from transformers.models.bert import modeling_bert

from helpers import show_source


@pytest.mark.parametrize("obj", [modeling_bert.BertLayer, modeling_bert.BertLayer.forward, modeling_bert])
def test_source_is_the_installed_text(obj):
    source = show_source(obj)
    assert source.code == inspect.getsource(obj)
    assert source.file == "transformers/models/bert/modeling_bert.py"
    lines = inspect.getsource(modeling_bert).splitlines(keepends=True)
    assert "".join(lines[source.line - 1 :]).startswith(source.code)
    assert source.version == transformers.__version__
    assert f"transformers {transformers.__version__}, {source.file}, line {source.line}" in source._repr_markdown_()


@pytest.mark.parametrize("obj", [len, 3, "text"])
def test_without_python_source(obj):
    with pytest.raises(TypeError, match="expected a class, function or module with Python source"):
        show_source(obj)
