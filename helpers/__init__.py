"""BERT anatomy: hooks, shapes, noise, and exact derivatives of Hugging Face's BERT.

A small core, in the order in which the notebooks 00 to 05 meet it:

    models, text, words         a model, the words of a text, and a sentence with its tokens
    inputs                      what a measurement expects of a model and its inputs
    hooks, shapes, source       what flows through a model, its shapes, the source of a class
    clean                       a forward pass that is neither random nor coarse
    noise, sampling, result     the experiment: disturb one position, watch the others
    figures, lines, labels      maps, lines with intervals, and the text in both
    drawing                     the architecture as a picture, with the shapes of a pass
    _claims                     what was seen on one input, and whether it holds on yours

and three rooms behind it, each with a page of its own:

    exact/                      a layer's derivative, and the experiments that use it
    statistics/                 annotated sentences, statistics over them, the results file
    interactive/                the view and the explorer

*Influence* here is a sensitivity: how far one state moves when another is pushed (the influence
score of Xu et al. 2018, captum's InternalInfluence). It has nothing to do with the influence
functions of Koh and Liang (2017), which ask about training examples. The names below are the public
ones; whatever else a module holds may change.
"""

from ._claims import check, claims
from .drawing import architecture
from .exact import (
    LayerJacobian,
    downstream_influence,
    layer_influence,
    layer_stack,
    upstream_influence,
)
from .figures import heatmap, layer_grid, save_figure
from .hooks import SiteError, edit, record
from .interactive import explorer, save_page, view
from .lines import curves
from .models import load_bert
from .noise import noise_response
from .result import Influence, load_influence
from .shapes import module_tree, shape_table
from .source import show_source
from .statistics import mark_sentence, measure, read_sentences
from .words import Sentence, encode
