"""BERT anatomy: hooks, shapes, noise and exact derivatives of Hugging Face's BERT.

Read the modules in this order: models, source, hooks, shapes, noise, layers, jacobian, influence, plots.
"""

from .hooks import SiteError, edit, record
from .influence import Influence, downstream_influence, layer_influence, upstream_influence
from .jacobian import LayerJacobian
from .layers import LayerStack, layer_stack
from .models import Sentence, encode, load_bert
from .noise import NoiseResponse, noise_response
from .plots import curves, heatmap, layer_grid, save_figure
from .shapes import module_tree, shape_table
from .source import show_source

__all__ = [
    "Influence",
    "LayerJacobian",
    "LayerStack",
    "NoiseResponse",
    "Sentence",
    "SiteError",
    "curves",
    "downstream_influence",
    "edit",
    "encode",
    "heatmap",
    "layer_grid",
    "layer_influence",
    "layer_stack",
    "load_bert",
    "module_tree",
    "noise_response",
    "record",
    "save_figure",
    "shape_table",
    "show_source",
    "upstream_influence",
]
