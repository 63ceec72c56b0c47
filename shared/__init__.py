"""What every party must agree on: pure values and functions. May import numpy, cryptography, safetensors; no I/O."""
