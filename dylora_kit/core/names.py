"""Names of modules and parameters that are the same whether a model is compiled, wrapped or neither."""

from collections.abc import Container, Iterator

from torch import nn

# where `torch.compile` and activation checkpointing keep the module that they wrap
INNER = ("_orig_mod", "_checkpoint_wrapped_module")
# the wrappers that call it "module"
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module under `torch.compile`, `DataParallel` and `DistributedDataParallel`; itself if there is none.

    >>> linear = nn.Linear(6, 5)
    >>> unwrapped(nn.DataParallel(linear)) is linear, unwrapped(linear) is linear
    (True, True)
    """
    while (inner := _inner(module)) is not None:
        module = inner
    return module


def _inner(module: nn.Module) -> nn.Module | None:
    if isinstance(module, PARALLEL):
        return module.module
    return next((module._modules[key] for key in INNER if key in module._modules), None)


def named_modules(model: nn.Module, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a model by name, as `model.named_modules()` gives them, without wrappers and their names.

    >>> [name for name, _ in named_modules(nn.DataParallel(nn.Sequential(nn.Linear(6, 5))))]
    ['', '0']
    """
    seen: set[nn.Module] = set()

    def walk(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
        module = unwrapped(module)
        if module in seen:
            return
        if remove_duplicate:
            seen.add(module)
        yield name, module
        for key, child in module._modules.items():
            if child is not None:
                yield from walk(child, f"{name}.{key}" if name else key)

    return walk(model, "")


def submodule(model: nn.Module, name: str) -> nn.Module:
    """The module of this name; `AttributeError` if there is none.

    >>> submodule(nn.DataParallel(nn.Sequential(nn.Linear(6, 5))), "0")
    Linear(in_features=6, out_features=5, bias=True)
    """
    module = unwrapped(model)
    for key in filter(None, name.split(".")):
        module = unwrapped(module.get_submodule(key))
    return module


def plain_name(name: str, known: Container[str] = ()) -> str:
    """A name of a module or a parameter as it is without `torch.compile`.

    Arguments:
        known: the names there are. A "module." of `DistributedDataParallel` at the start goes if the rest is one of
            them and the whole is not.

    >>> plain_name("_orig_mod.layers.0._orig_mod.query"), plain_name("module.query.weight", ["query.weight"])
    ('layers.0.query', 'query.weight')
    """
    if name in known:
        return name
    name = short = ".".join(part for part in name.split(".") if part not in INNER)
    while name not in known and short.startswith("module."):
        short = short.removeprefix("module.")
        if short in known:
            return short
    return name
