"""Files that are whole or not there. Data in, data out: nothing here knows a model.

In reading order:

- `temporary_files`: files beside their place, before they are moved into it
- `files`: safetensors and JSON, written beside their place and then moved into it
- `expressions`: regular expressions of a file, with a bound on the time they take
- `checksum`: a checksum of all values of a tensor
- `base_model`: what files say of the model under an adapter
- `adapter_files`: the adapters of this kit
- `peft_files`: ordinary LoRA adapters of PEFT, written and read
"""
