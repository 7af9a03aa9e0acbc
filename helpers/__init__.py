"""BERT anatomy: hooks, shapes, noise, and exact derivatives of Hugging Face's BERT. Read the modules in this order:

    models, checks, values          a model and a sentence; what a measurement expects of them
    source, hooks, shapes           the source of a class, what flows through a model, which shape it has
    result, noise                   the experiment: disturb one position, watch the others
    post_ln, linearised, jacobian   what a layer is made of, the linear map that it is for small changes, its blocks
    layers                          a model's layers as functions of one hidden state
    drawing                         the architecture as a picture, with the shapes of a pass
    sweep, influence                both experiments, for all layers and positions of a sentence
    text, corpora                   annotated sentences, and the files that they are read from
    findings, results               statistics over sentences, and a file that keeps them
    plots, lines, labels            maps, lines with intervals, and the text in both
    claims                          what was seen on one input, and whether it holds on yours; exercises
    view, explorer                  an influence to touch, without a kernel; and under a text box, with one

The names below are the public ones; whatever else a module holds may change.
"""

from .claims import Check, Claim, check, claims
from .corpora import read_sentences
from .drawing import architecture
from .explorer import Explorer, explorer
from .findings import interval, locality, mean_distance, outflow, reach, span_influence
from .hooks import SiteError, edit, record
from .influence import downstream_influence, layer_influence, upstream_influence
from .jacobian import LayerJacobian
from .layers import LayerStack, layer_stack
from .lines import curves, small_multiples
from .models import Sentence, encode, load_bert
from .noise import noise_response
from .plots import heatmap, layer_grid, save_figure
from .result import Influence
from .results import by_distance, by_kind, in_names, replace_results, results
from .shapes import module_tree, shape_table
from .source import show_source
from .text import MarkedSentence, mark_sentence, shuffled
from .view import View, align, save_page, view
