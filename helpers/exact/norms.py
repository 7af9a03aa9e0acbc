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
        return NormAt(self.x_hat[positions, None], self.gain[positions, None])

    def jvp(self, t: Tensor) -> Tensor:
        """LN'·t = γ/s ∘ (t - mean(t) - x̂ mean(x̂ ∘ t)), along the last axis."""
        t = t - t.mean(-1, keepdim=True)
        along = (self.x_hat * t).mean(-1, keepdim=True)
        return t.addcmul_(self.x_hat, along, value=-1).mul_(self.gain)

    def vjp(self, c: Tensor) -> Tensor:
        """LN'ᵀ·c, the same factors in the other order."""
        c = self.gain * c
        along = (self.x_hat * c).mean(-1, keepdim=True)
        c -= c.mean(-1, keepdim=True)
        return c.addcmul_(self.x_hat, along, value=-1)


def layer_norm(norm: nn.LayerNorm, z: Tensor) -> tuple[Tensor, NormAt]:
    """LN(z) of [seq, hidden], and its derivative there."""
    centred = z - z.mean(-1, keepdim=True)
    s = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    x_hat = centred / s
    gamma, beta = norm.weight.detach().to(z), norm.bias.detach().to(z)
    return gamma * x_hat + beta, NormAt(x_hat, gamma / s)
