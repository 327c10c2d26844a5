"""A trained LoRA made smaller, from its files alone: no base model is opened.

In reading order:

- `singular_values`: the singular value decomposition of B·A, and what it tells of a layer
- `rank_choice`: which rank each layer gets
- `adapter_file`: what every file with a LoRA gives, and takes back
- `peft_folder`: PEFT's folders, and those of this kit
- `kohya_file`: single files, as of kohya's scripts
- `opening`: an adapter by the name of its file, its folder, or on the hub
- `resize`: cuts an adapter, and writes it
"""
