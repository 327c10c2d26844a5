"""PEFT and transformers' Trainer.

In reading order:

- `peft_import`: a LoRA adapter that PEFT wrote, attached
- `peft_layers`: the LoRA layers of a PEFT model, nested in place
- `before_loading`: what a model held before a checkpoint was loaded into it
- `missing_keys`: what the Trainer says of a checkpoint that lacks the base
- `trainer`: a callback for `transformers.Trainer`

To write an adapter for PEFT, call `export_peft` on the handle that `attach` returns (`core.writing`);
`storage.peft_files` writes the files.
"""
