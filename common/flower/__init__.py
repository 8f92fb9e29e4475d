"""What node and coordinator share of Flower's surroundings.

`environment` sets Flower up for our processes; `bundle_signature` signs app bundles.
`request_size_limit` bounds the body of a request.
"""
