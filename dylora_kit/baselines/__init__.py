"""What DyLoRA is compared with, and where it comes from."""
