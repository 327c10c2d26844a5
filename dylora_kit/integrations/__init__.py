"""PEFT and transformers' Trainer.

In reading order:

- `peft_import`: a LoRA adapter that PEFT wrote, attached
- `peft_layers`: the LoRA layers of a PEFT model, nested in place
- `trainer`: a callback for `transformers.Trainer`

To write an adapter for PEFT, call `export_peft` on the handle that `attach` returns (`core.handle`);
`storage.peft_files` writes the files.
"""
