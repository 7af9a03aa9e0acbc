"""The exact derivative of a layer, and the experiments that use it. Read the modules in this order:

post_ln        what a layer is made of, whatever its model calls the parts
linearised     a layer as the linear map that it is for small changes
jacobian       the blocks of that map, one for each pair of positions, in closed form
layers         all layers of a model, as functions of one hidden state
sweep          disturb one position at a time and follow the disturbance through the layers
influence      the experiments: within each layer, from a site on, onto chosen positions
"""

from .influence import downstream_influence, layer_influence, upstream_influence
from .jacobian import LayerJacobian
from .layers import LayerStack, layer_stack
from .linearised import attention_scores
from .post_ln import without_heads
