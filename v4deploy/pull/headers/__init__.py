"""What weight files say about themselves: the headers of GGUF and safetensors, and whether they can be true."""
