"""PEFT and transformers' Trainer.

In reading order:

- `peft_import`: a LoRA adapter that PEFT wrote, attached
- `peft_layers`: the LoRA layers of a PEFT model, nested in place
- `trainer`: a callback for `transformers.Trainer`

Writing an adapter for PEFT is `adapters.export_peft`; the file format is in `storage.peft_files`.
"""
