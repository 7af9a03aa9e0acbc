"""Statistics of an influence over many annotated sentences. Read the modules in this order:

sentences       a sentence with its words, names, phrases and kinds of tokens
corpora         the files that such sentences are read from
findings        numbers of one map (locality, reach, spans), and intervals over sentences
results_file    the table that keeps them, one row for each sentence, layer and kind
association     which pairs of words a head links, against the same words paired otherwise
"""

from .association import advantage, associations, list_influence
from .corpora import read_sentences
from .findings import interval, locality, mean_distance, outflow, reach, span_influence
from .results_file import by_distance, by_kind, in_names, replace_results, results
from .sentences import MarkedSentence, mark_sentence, shuffled
