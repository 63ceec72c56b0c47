"""What every party must agree on, as pure values and functions: numpy, cryptography, blake3, safetensors; no I/O."""
