"""LayerNorm and its derivative.

LN(z) = γ x̂ + β,   LN'(z) = diag(γ)/s (I - 11ᵀ/H - x̂x̂ᵀ/H),   x̂ = (z - mean)/s,   s² = var + ε
"""

from typing import NamedTuple

from torch import Tensor, nn


class NormAt(NamedTuple):
    """The derivative of a LayerNorm at its inputs, [seq, hidden] each."""

    x_hat: Tensor
    gain: Tensor  # γ/s

    def at(self, positions: Tensor) -> "NormAt":
        """At some positions, for the matrices there: [position, 1, hidden]"""
        x_hat, gain = self.x_hat[positions], self.gain[positions]
        return NormAt(x_hat[:, None], gain[:, None])

    def jvp(self, t: Tensor) -> Tensor:
        """LN'·t, along the last axis."""
        return self._across(t).mul_(self.gain)

    def vjp(self, c: Tensor) -> Tensor:
        """LN'ᵀ·c, the same factors in the other order."""
        return self._across(self.gain * c)

    def _across(self, t: Tensor) -> Tensor:
        """(I - 11ᵀ/H - x̂x̂ᵀ/H) t: what is left of t without its parts along 1 and along x̂."""
        mean = t.mean(-1, keepdim=True)
        along = (self.x_hat * t).mean(-1, keepdim=True)
        rest = t - mean
        return rest.addcmul_(self.x_hat, along, value=-1)  # in place, for large matrices


def layer_norm(norm: nn.LayerNorm, z: Tensor) -> tuple[Tensor, NormAt]:
    """LN(z) of [seq, hidden], and its derivative there."""
    gamma = norm.weight.detach().to(z)
    beta = norm.bias.detach().to(z)
    mean = z.mean(-1, keepdim=True)
    centred = z - mean
    variance = centred.square().mean(-1, keepdim=True)
    s = (variance + norm.eps).sqrt()
    x_hat = centred / s
    output = gamma * x_hat + beta
    return output, NormAt(x_hat, gamma / s)
