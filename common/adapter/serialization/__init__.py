"""An adapter as the bytes of a Flower message.

Begin with `message`: encode and decode. `header` is the safetensors header, `encoding` the numbers.
`canonical` writes a received message again, so that nothing else fits into it.
"""
