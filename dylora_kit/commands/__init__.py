"""The commands of `python -m dylora_kit`: each adds its arguments to the parser, and does what they ask for.

In reading order:

- `base`: the base model that a command line names
- `resize`: a trained LoRA made smaller
- `inspect`: what ranks a trained LoRA uses
- `nest`: a trained LoRA gets all its ranks
- `advise`: which rank to take, from one training on your own data
- `doctor`: whether the lessons will work here
- `page`: the rank slider as a page that needs no kernel
- `classroom`: what an instructor takes to a class; the command is called `class`
"""
