"""Files that are whole or not there. Data in, data out: nothing here knows a model.

In reading order:

- `files`: safetensors and JSON, written beside their place and then moved into it
- `adapter_files`: the adapters of this kit
- `peft_files`: ordinary LoRA adapters of PEFT, written and read
"""
