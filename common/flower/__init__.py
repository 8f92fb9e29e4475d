"""Code around Flower that node and coordinator share.

`environment` is the environment of Flower's processes; `bundle_signature` signs app bundles;
`request_size_limit` limits the body of a request; `asgi` has the types of a web application.
"""
