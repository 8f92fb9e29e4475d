"""An adapter as the bytes of a Flower message.

Begin with `message`: encode and decode. `encoding` is the matrices as named tensors; `header` the
safetensors file around them. `canonical` encodes a received message again, so that a reply cannot
carry anything but its numbers.
"""
