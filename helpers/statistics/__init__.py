"""Statistics of an influence over many annotated sentences. Read the modules in this order:

marked          a sentence with its words, names, phrases and kinds of words
corpora         the files that such sentences are read from
measures        numbers of one sentence (locality, reach, spans): a new statistic goes here
many            one experiment on many sentences, kept in a folder
tables          them for each kind of word over many sentences, with intervals, and the results file
association     which pairs of words a head links, against the same words paired otherwise

Notebook 08 goes through them: `read_sentences`, one of the `by_...` or `in_names`, `results`,
`replace_results`.
"""

from .association import advantage, associations, list_influence
from .corpora import read_sentences
from .many import measure
from .marked import MarkedSentence, mark_sentence, shuffled
from .measures import locality, mean_distance, outflow, reach, span_influence
from .tables import by_distance, by_kind, in_names, interval, replace_results, results
