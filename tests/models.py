"""Small networks that the core's tests adapt: every layer has its own size, and none is square."""

import torch
from torch import nn

import dylora_kit as dk

R = 8
TARGETS = ["first", "second", "third"]


class Net(nn.Module):
    """(..., 12) → 17 → 9 → 13 → classifier 5."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 17)
        self.second = nn.Linear(17, 9, bias=False)
        self.third = nn.Linear(9, 13)
        self.classifier = nn.Linear(13, 5)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        x = torch.tanh(self.second(x))
        return self.classifier(torch.tanh(self.third(x)))


def make(seed=0, r=R, *, nonzero=True, head=False, dtype=None, **options):
    """A seeded network with adapters, `lora_B` away from zero unless `nonzero` is false."""
    torch.manual_seed(seed)
    model = Net()
    if dtype is not None:
        model = model.to(dtype)
    options.setdefault("target_modules", TARGETS)
    adapters = dk.attach(model, r=r, modules_to_save=["classifier"] if head else [], seed=seed, **options)
    if nonzero:
        fill(adapters, seed)
    return model, adapters


def fill(adapters, seed=0):
    """Puts noise into every `lora_B`."""
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for layer in adapters.layers.values():
            layer.lora_B.copy_(torch.randn(layer.lora_B.shape, generator=generator) * 0.3)


def layer(r=4, d_in=7, d_out=11, *, seed=0, bias=True, dtype=torch.float64, **options):
    """A stand-alone layer in float64 with a nonzero `lora_B`."""
    torch.manual_seed(seed)
    made = dk.DyLoRALinear(nn.Linear(d_in, d_out, bias=bias, dtype=dtype), r=r, **options)
    nn.init.normal_(made.lora_B)
    return made


def batch(n=6, d=12, seed=3, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def loss_of(model, x):
    return model(x).pow(2).mean()


def parameters(adapters):
    """Every adapter parameter, with the dimension that counts its rows."""
    return [(p, dim) for la in adapters.layers.values() for dim, p in enumerate((la.lora_A, la.lora_B))]


def rows_of(tensor, dim):
    """The tensor with the rank in front: rows of A, columns of B."""
    return tensor.detach().movedim(dim, 0)
