"""The exact derivative of a layer, and the experiments that use it. Read the modules in this order:

post_ln        what a layer is made of, whatever its model calls the parts
chosen         layers, positions and heads by their numbers
knock_out      heads that are silent
norms          LayerNorm and its derivative
linearised     a layer as the linear map that it is for small changes
chunk          some of its targets, with the matrices that are kept
jacobian       the blocks of that map, one for each pair of positions, in closed form
layers         all layers of a model, as functions of one hidden state
sweep          disturb one position at a time and follow it through the layers, or go back
by_noise       the same experiments by the model's own pass
influence      the experiments: within each layer, from a site on, onto chosen positions
"""

from .influence import downstream_influence, layer_influence, upstream_influence
from .jacobian import LayerJacobian
from .knock_out import without_heads
from .layers import LayerStack, layer_stack
from .linearised import attention_scores
