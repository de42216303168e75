"""Non-local blocks: every cell of a map gathers from all others by pairwise weights. FBKD compares teacher and student behind one."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NonLocal(nn.Module):
    """Non-local block: every cell gathers a projection g of all (pooled) cells by pairwise weights S between theta and phi.

    dot_product: S = theta^T phi / n; concatenation: relu(w^T [theta, phi]) / n; embedded_gaussian: softmax(theta^T phi / sqrt(C_i));
    gaussian: softmax(x^T pooled x). pool: width of the max-pooling of phi and g. residual: z = BN(out(S g)) + x with BN
    starting at 0, else z = out(S g). Source: Wang et al., Non-local Neural Networks, CVPR 2018; mmcv's NonLocal2d.
    """

    def __init__(self, channels: int, inner: int, pool: int, mode: str = "dot_product", residual: bool = True) -> None:
        super().__init__()
        self.inner, self.pool, self.mode = inner, pool, mode
        parts = 1 if mode == "gaussian" else 3  # g, or theta, phi and g in one pass over x
        self.project = nn.Conv2d(channels, parts * inner, 1)
        self.pair = nn.Linear(2 * inner, 1, bias=False) if mode == "concatenation" else None
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, track_running_stats=False) if residual else None
        if self.norm:
            nn.init.zeros_(self.norm.weight)

    def pooled(self, x: Tensor) -> Tensor:
        """Max-pooled cells as keys, (N, C, n); a map smaller than the window is one key."""
        window = (min(self.pool, x.shape[2]), min(self.pool, x.shape[3]))
        return F.max_pool2d(x, window).flatten(2) if window != (1, 1) else x.flatten(2)

    def gather(self, x: Tensor) -> Tensor:
        """S g of x (N, C, H, W): (N, C_i, H*W)."""
        if self.mode == "gaussian":
            query, key, value = x.flatten(2), self.pooled(x), self.pooled(self.project(x))
        else:
            theta, rest = self.project(x).split((self.inner, 2 * self.inner), dim=1)
            key, value = self.pooled(rest).chunk(2, dim=1)
            query = theta.flatten(2)
        if self.mode == "dot_product":  # theta^T (phi g^T) is S g without the (HW, n) matrix
            return (value @ key.transpose(1, 2) / key.shape[2]) @ query
        if self.pair is not None:
            ours, theirs = self.pair.weight.split(self.inner, dim=1)  # w^T [theta, phi] = w_1^T theta + w_2^T phi
            scores = F.relu((ours @ query).transpose(1, 2) + theirs @ key)  # (N, H*W, n)
            return value @ (scores / key.shape[2]).transpose(1, 2)
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        scale = 1.0 if self.mode == "gaussian" else None  # None: 1 / sqrt(C_i)
        return F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.out(self.gather(x).unflatten(2, x.shape[2:]))
        if self.norm is None:
            return z
        # torch.batch_norm, because the module refuses a batch of one cell (the top level of a small image).
        bn = self.norm
        return x + torch.batch_norm(z, bn.weight, bn.bias, None, None, True, 0.0, bn.eps, torch.backends.cudnn.enabled)
